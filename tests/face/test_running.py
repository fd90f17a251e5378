"""Jobs and sweeps from Python: the checks, the folders and the errors of the command line, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

import fmsteal
from fmsteal.base import paths
from fmsteal.base.errors import AttackError, ConfigError, FmstealError, JobError
from fmsteal.base.on_hydra import STATE
from tests.support.composing import SMALL, composed

LINEAR = (*SMALL, "victim._target_=tests.support.foreign_victims.Linear", "overlap=allow")


def test_composing_gives_the_config_of_the_command_line() -> None:
    words = ["budget=100", "seed=3", "defense=top_k", "thief=resnet18"]
    cfg = fmsteal.compose(words)
    due = composed("budget='100'", *words[1:])
    assert "hydra" not in cfg and cfg.budget.queries == 100 and cfg.cache == "outputs/cache"
    del due._content["hydra"]  # type: ignore[union-attr]
    assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(due, resolve=True)


@pytest.mark.parametrize("call", [fmsteal.compose, fmsteal.run], ids=["compose", "run"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bugdet=1k"], "Did you mean 'budget'"),
        (["thief.recipe.epoch=3"], "Did you mean 'thief.recipe.epochs'"),
        (["defense=hard_labl"], "hard_label"),
        (["+bogus=1"], "nothing reads 'bogus'"),
        (["data=image_folder"], "data.root must be given"),
        (["thief.recipe.gamma=0.5"], "has no effect with thief.recipe.schedule=cosine"),
        (["budget=100,500"], r"budget=100,500 is a sweep: fmsteal\.run_sweep"),
        (["sweep=quickstart"], "This is a sweep"),
        (["-m", "seed=1"], "-m is for the command line"),
        ("budget=100", r'Give a list of overrides: \["budget=100"\]'),
        ([3], "3 is no override"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_anything_is_done(
    call: Any, words: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        call(words)
    assert not list(tmp_path.iterdir())


def hydra_of_another(folder: Path) -> None:
    """A Hydra that a notebook has of its own, and a config of the name of ours in the store."""
    (folder / "other.yaml").write_text("mine: 1\n")
    ConfigStore.instance().store(name="root", node={"theirs": 2})
    ConfigStore.instance().repo["sweep"] = {"theirs.yaml": None}
    initialize_config_dir(str(folder), version_base="1.2")
    HydraConfig.instance().set_config(compose("other", return_hydra_config=True))


def state_of_hydra() -> tuple[Any, ...]:
    store = ConfigStore.instance().repo
    return (
        [(kind, Singleton._instances.get(kind)) for kind in STATE],
        GlobalHydra.instance().hydra,
        HydraConfig.instance().cfg,
        store["root.yaml"],
        sorted(store),
        dict(store["sweep"]),
        dict(store["hydra"]["launcher"]),
    )


def test_hydra_is_as_it_was_twice_inside_a_running_loop(
    job: fmsteal.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, ours = dict(Singleton._instances), dict(ConfigStore.instance().repo)
    monkeypatch.chdir(job.folder.parents[2])
    try:
        hydra_of_another(tmp_path)
        before, cwd = state_of_hydra(), Path.cwd()
        handlers, level = list(logging.getLogger().handlers), logging.getLogger("fmsteal").level

        async def cell() -> list[Any]:
            return [fmsteal.run([*SMALL, "seed=3"]), fmsteal.compose(["seed=1"]), fmsteal.run([*SMALL, "seed=3"])]

        first, cfg, second = asyncio.run(cell())
        assert first.key == second.key == job.key and cfg.seed == 1
        with pytest.raises(ConfigError):
            fmsteal.compose(["bugdet=1"])
        assert state_of_hydra() == before and Path.cwd() == cwd
        assert logging.getLogger().handlers == handlers and logging.getLogger("fmsteal").level == level
        assert compose("other").mine == 1
    finally:
        Singleton._instances.clear()
        Singleton._instances.update(kept)
        ConfigStore.instance().repo.clear()
        ConfigStore.instance().repo.update(ours)


def test_hydra_that_was_not_there_is_not_there(job: fmsteal.Job) -> None:
    kept = {kind: Singleton._instances.pop(kind, None) for kind in STATE}
    try:
        fmsteal.compose(["seed=1"])
        assert not set(STATE) & set(Singleton._instances)
    finally:
        Singleton._instances.update({kind: one for kind, one in kept.items() if one is not None})


def test_a_finished_job_is_opened_and_nothing_is_done(
    job: fmsteal.Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(job.folder.parents[2])
    monkeypatch.setattr("fmsteal.job.pipeline.run", lambda *args: pytest.fail("it is run again"))
    before = {file: file.stat().st_mtime_ns for file in (job.folder / "result.json", job.theft_folder / "theft.json")}
    again = fmsteal.run([*SMALL, "seed=3"])
    assert again.folder == job.folder and again.result == job.result
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_its_log_lies_in_its_folder(job: fmsteal.Job) -> None:
    assert "queries: 100/100" in (job.folder / "fmsteal.log").read_text()
    assert (job.folder / ".hydra" / "overrides.yaml").exists()


def test_a_job_that_fails_raises_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttackError, match="it failed after 100 queries") as raised:
        fmsteal.run([*LINEAR, "attack._target_=tests.support.misbehaving.Raises"])
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    with pytest.raises(JobError, match=r"has failed: AttackError: tests.support.misbehaving.Raises: it failed after"):
        fmsteal.load(folder)
    assert not str(raised.value).startswith("fmsteal:")
    with pytest.raises(ConfigError, match="stage=victims has no result to open"):
        fmsteal.run([*LINEAR, "stage=victims"])


@pytest.mark.slow
def test_a_sweep_is_run_and_its_jobs_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    attacks = "fmsteal.attacks.knockoff.Knockoff", "tests.support.misbehaving.Raises"
    words = [*LINEAR, "sweep_id=two", f"attack._target_={','.join(attacks)}"]
    with pytest.raises(
        JobError, match=r"(?s)two ended with jobs that have no result .exit status 1.*Raises: it failed"
    ):
        fmsteal.run_sweep(words)
    assert "1 of 2 jobs" in capsys.readouterr().out
    (job,) = fmsteal.run_sweep([*words[:-1], f"attack._target_={attacks[0]}"])  # the other one was asked for before
    assert job.folder.parent == tmp_path / "outputs" / "sweeps" / "two" and job.ledger["answers"].shape == (100, 10)
    assert "1 are finished already" in capsys.readouterr().out


def test_a_sweeps_mistakes_are_told_before_a_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.Popen", lambda *args, **more: pytest.fail("a process is started"))
    for words, says in (
        (["sed=1,2"], "Did you mean 'seed'"),
        (["budget=100,7k", "thief=nobody"], "thief/nobody"),
        (["seed=range(0,0)"], "holds no value"),
    ):
        with pytest.raises(FmstealError, match=says):
            fmsteal.run_sweep(words)
    assert not list(tmp_path.iterdir()) and paths.folder("conf").is_dir()
