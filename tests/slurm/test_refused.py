"""What is wrong with a launcher is said before any job runs, also where there is no Slurm at all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.sweep import launchers
from fmsteal.sweep.on_slurm import STAGED, SlurmOptions
from tests.support.commands import Run
from tests.support.composing import SMALL, composed


def launcher(name: str, *more: str):  # type: ignore[no-untyped-def]
    return composed(f"hydra/launcher={name}", *(f"hydra.launcher.{m}" for m in more)).hydra.launcher


@pytest.mark.parametrize("name", ["slurm", "slurm_preemptible"])
def test_without_sbatch(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs Slurm's sbatch and srun, which are not on the PATH"):
        launchers.make_ready(launcher(name))


def test_the_command_refuses_it_too(fmsteal: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = fmsteal("-m", *SMALL, "seed=0,1", "hydra/launcher=slurm", ok=False).stderr
    assert said.startswith("fmsteal: hydra/launcher=slurm needs") and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("name", "extra"), [("slurm", "slurm"), ("slurm_preemptible", "slurm"), ("ray", "ray")])
def test_a_missing_plugin_is_named_with_its_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"pip install -e '\.\[{extra}\]'"):
        launchers.make_ready(launcher(name))


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("hydra.launcher.timeout_min=soon", "timeout_min=soon: Value 'soon'"),
        ("hydra.launcher.mem_gb=[1]", "mem_gb="),
        ("+hydra.launcher.partitoin=gpu", "no option 'partitoin'.*partition.*additional_parameters"),
        ("+hydra.launcher.victims.gpu=4", r"hydra\.launcher\.victims has no option 'gpu'.*gpus_per_node"),
        ("+hydra.launcher.thefts.wait=false", r"hydra\.launcher\.thefts has no option 'wait'"),
        ("hydra.launcher.thefts.mem_gb=much", r"hydra\.launcher\.thefts\.mem_gb=much: Value 'much'"),
        ("hydra.launcher.wait=later", "wait=later: Value 'later'"),
    ],
)
def test_a_wrong_option_is_named(option: str, answer: str) -> None:
    pytest.importorskip("submitit")
    cfg = composed("hydra/launcher=slurm", option)
    with pytest.raises(ConfigError, match=answer):
        launchers.make_ready(cfg.hydra.launcher)


def test_launchers_that_need_nothing_pass() -> None:
    launchers.make_ready(launcher("basic"))


@pytest.mark.parametrize("name", ["slurm", "slurm_preemptible"])
def test_the_presets_name_all_options(name: str) -> None:
    """They are documented there; those of a stage follow the launcher's own."""
    known = {option.name for option in fields(SlurmOptions)}
    found = launcher(name, "timeout_min=7", "thefts.gpus_per_node=null", "victims.gpus_per_node=4")
    assert set(found) == known | {"_target_"} and set(found.victims) == set(found.thefts) == set(STAGED)
    victims, thefts = (launchers.of_stage(found, stage) for stage in launchers.STAGES)
    assert (victims.gpus_per_node, thefts.gpus_per_node, found.gpus_per_node) == (4, None, 1)
    assert victims.timeout_min == thefts.timeout_min == 7 and victims.array_parallelism == found.array_parallelism
    assert "thefts" not in victims and "_target_" in victims


def test_a_dependency_of_the_users_is_kept_beside_ours() -> None:
    options = SlurmOptions(additional_parameters={"dependency": "afterany:7", "requeue": True})
    more = options.of_jobs("12_3")["additional_parameters"]
    assert more == {"dependency": "afterany:7,afterok:12_3", "kill-on-invalid-dep": "yes", "requeue": True}
    assert options.of_jobs()["additional_parameters"] == {"dependency": "afterany:7", "requeue": True}
