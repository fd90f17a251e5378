"""A job that a cluster queues again does not wait for a theft that another process works on: its sweep does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from fmsteal.base.lease import lease
from fmsteal.base.store import write_json
from fmsteal.identity.keys import job_key
from fmsteal.job import pipeline
from fmsteal.job import run as jobs
from fmsteal.job.theft import hold
from fmsteal.records import results
from fmsteal.records.folders import THEFTS, JobFolder, TheftFolder
from fmsteal.sweep import launches as sweeps
from tests.job.jobs import QUICK, read
from tests.support.composing import composed

SECONDS = 2.0  # after which a dead holder is replaced


@pytest.fixture
def on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Runs a job as one of a sweep whose jobs have processes of their own."""
    cfg = composed(*QUICK, f"output={tmp_path}", "sweep_id=one")
    with open_dict(cfg):
        cfg.hydra.mode, cfg.hydra.launcher._target_ = RunMode.MULTIRUN, "any.SlurmLauncher"
        cfg.hydra.runtime.output_dir = str(tmp_path / "sweeps" / "one" / job_key(cfg, cfg.hydra.runtime.choices))
    Path(cfg.hydra.runtime.output_dir, ".hydra").mkdir(parents=True)
    monkeypatch.setattr(pipeline, "hold", partial(hold, seconds=SECONDS))
    monkeypatch.setattr(pipeline, "LEASE_SECONDS", SECONDS)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(cfg)
    task = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"])
    return lambda: jobs.run_job(task)


def test_it_ends_as_waiting_and_names_the_theft(on_slurm: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    theft = TheftFolder(tmp_path / THEFTS / folder.name)
    with lease(theft.lease, "it", SECONDS):
        assert "is working on theft" in on_slurm()["waiting"]
        waits = read(JobFolder(folder).waiting)
        assert (folder / waits["theft"]).resolve() == theft.path and waits["job_key"] == folder.name
        assert waits["command"].startswith("fmsteal experiment=smoke")
        (entry,) = results.list_begun(folder.parent)
        assert entry.state == results.WAITING and results.read_sweep(folder.parent).failures == []
        assert sweeps._is_busy(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert not sweeps._is_busy(SimpleNamespace(folder=folder))  # type: ignore[arg-type]
    assert not theft.ledger.exists() and not JobFolder(folder).failure.exists()
    assert on_slurm()["cost"]["cost/queries"] == 100
    assert not JobFolder(folder).waiting.exists() and theft.seal.exists()


class Launcher:
    """Runs jobs as a list of endings says: ``waiting``, ``done`` or ``dead``; the last one holds for all further."""

    def __init__(self, root: Path, *endings: str) -> None:
        self.root, self.endings, self.launched = root, list(endings), 0

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        assert initial_job_idx == self.launched
        for (name,) in jobs:
            ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
            job = JobFolder(self.root / name)
            if ending == "waiting":
                leave_waiting(job)
            elif ending == "done":
                job.waiting.unlink(missing_ok=True)
        self.launched += len(jobs)
        return [JobReturn(status=JobStatus.COMPLETED)] * len(jobs)


def leave_waiting(job: JobFolder) -> None:
    job.path.mkdir(parents=True, exist_ok=True)
    write_json(job.waiting, {"job_key": job.path.name, "theft": "../theft"})


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any, Launcher]]:
    monkeypatch.setattr(sweeps, "WAITED", 0.01)

    def make(*endings: str) -> tuple[Any, Any, Launcher]:
        launcher = Launcher(tmp_path, *endings)
        monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", lambda *args: launcher)
        master: Any = OmegaConf.create({"hydra": {"launcher": {}}})
        cell = SimpleNamespace(folder=tmp_path / "a", key="a", victim="v", overrides=("a",))
        return sweeps.Launches(master, None, None, tmp_path), cell, launcher  # type: ignore[arg-type]

    return make


def test_the_sweep_runs_it_again_until_it_is_through(
    sweep: Callable[..., tuple[Any, Any, Launcher]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches, cell, launcher = sweep("waiting", "waiting", "done")
    launches.run_thieves([cell])
    assert launcher.launched == 1
    looks: list[int] = []

    def look(seconds: float) -> None:
        looks.append(launcher.launched)
        if len(looks) == 3:
            holding.__exit__(None, None, None)

    holding = lease(tmp_path / "theft" / ".running", "it")
    holding.__enter__()
    monkeypatch.setattr("fmsteal.sweep.launches.time.sleep", look)
    launches.run_waiting([cell])
    assert looks == [1, 1, 1] and launcher.launched == 3


@pytest.mark.parametrize("failed", [set(), {"v"}])
def test_what_an_earlier_launch_left_is_not_waited_for(
    failed: set[str], sweep: Callable[..., tuple[Any, Any, Launcher]], tmp_path: Path
) -> None:
    """A job that dies before it begins, or whose victim failed, is not run for ever."""
    launches, cell, launcher = sweep("dead")
    leave_waiting(JobFolder(tmp_path / "a"))
    launches.failed_victims = failed
    launches.run_thieves([cell])
    launches.run_waiting([cell])
    assert launcher.launched == (0 if failed else 1)
