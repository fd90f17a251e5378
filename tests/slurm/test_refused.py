"""What is wrong with a launcher is said before any job runs, also where there is no Slurm at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.sweep import launchers
from tests.support.commands import Run
from tests.support.composing import SMALL, composed


def launcher(name: str, *more: str):  # type: ignore[no-untyped-def]
    return composed(f"hydra/launcher={name}", *(f"hydra.launcher.{m}" for m in more)).hydra.launcher


@pytest.mark.parametrize("name", ["slurm", "slurm_preemptible"])
def test_without_sbatch(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
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
    ],
)
def test_a_wrong_option_is_named(option: str, answer: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    cfg = composed("hydra/launcher=slurm", option)
    with pytest.raises(ConfigError, match=answer):
        launchers.make_ready(cfg.hydra.launcher)


def test_launchers_that_need_nothing_pass() -> None:
    launchers.make_ready(launcher("basic"))


def test_the_presets_name_all_options_of_the_plugin() -> None:
    """They are written out, so that they are documented and compose without the plugin."""
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    theirs = set(vars(config.SlurmQueueConf()))
    assert set(launcher("slurm")) == theirs and set(launcher("slurm_preemptible")) == theirs
