"""What many tests share: composing configs, running the real command, small real images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from fmsteal import cli
from fmsteal.base import paths
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.records.folders import JobFolder, TheftFolder, theft_of
from tests.warm import Command

SMOKE = ("experiment=smoke", "tracker=none", "trainer=cpu")
TINY = "backbone.model=test_resnet"  # of timm: a fifth of the time of a ResNet-10
SMALL = (*SMOKE, "victim=resnet10t", "thief=resnet10t", f"victim.{TINY}", f"thief.{TINY}")

# The same examples in every run, however slow the machine is. To look for others: pytest --hypothesis-profile=search
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("same")

if "PYTEST_XDIST_WORKER" in os.environ:  # several threads in each of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@cache
def loader() -> SharedLoader:
    """Reads each file of conf/ once in a process; made where Hydra is initialised."""
    return SharedLoader(GlobalHydra.instance().config_loader().get_search_path())


def composed(*overrides: str) -> DictConfig:
    """The config of a job, with the ``hydra`` node."""
    cli.only_our_ray()
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = loader()
        return compose("config", list(overrides), return_hydra_config=True)


def environment() -> dict[str, str]:
    """The process environment without logins, W&B offline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return {**kept, "WANDB_MODE": "offline", "HYDRA_FULL_ERROR": "0", "COLUMNS": "200"}


def command(*args: str) -> list[str]:
    """The `fmsteal` command line, run by this interpreter."""
    return [sys.executable, "-m", "fmsteal", *args]


Run = Callable[..., subprocess.CompletedProcess[str]]


def start(*words: str, cwd: Path) -> Command:
    """Begin the command in the folder ``cwd``; what it writes to both outputs is one text."""
    cwd.mkdir(exist_ok=True)
    return Command(words, cwd, environment(), joined=True)


def finish(running: Command | subprocess.Popen[str], ok: bool = True) -> str:
    """Wait for its end; what it said."""
    said, _ = running.communicate(timeout=300)
    assert (running.returncode == 0) == ok, said
    return said


@pytest.fixture
def fmsteal(tmp_path: Path) -> Run:
    """Run the real command in an empty folder: ``fmsteal("budget=1k", ok=True)``."""

    def run(*words: str, ok: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        done = Command(words, cwd, environment()).done()
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    return run


def only_theft(root: Path) -> TheftFolder:
    """The one theft below ``root / outputs``."""
    found = [p for p in (root / "outputs" / "thefts").iterdir() if not p.name.startswith(".")]
    assert len(found) == 1, found
    return TheftFolder(found[0])


def theft_of_job(job: Path) -> TheftFolder:
    """The theft of a job, finished or under way."""
    found = theft_of(JobFolder(job))
    assert found is not None, job
    return found


def in_thief_training(root: Path) -> list[TheftFolder]:
    """The thefts below ``root / outputs`` whose thief has a checkpoint."""
    return [TheftFolder(p.parents[2]) for p in root.glob("outputs/thefts/*/work/thief/last.ckpt")]


def only_run(root: Path) -> Path:
    """The folder of the one job below ``root / outputs``."""
    found: Sequence[Path] = [p for p in (root / "outputs" / "runs").iterdir() if p.is_dir()]
    assert len(found) == 1, found
    return found[0]
