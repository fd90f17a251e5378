"""What many tests share: composing configs, running the real command, small real images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fmsteal import cli, paths

SMOKE = ("experiment=smoke", "tracker=none", "trainer=cpu")
SMALL = (*SMOKE, "victim=resnet10t", "thief=resnet10t")

if "PYTEST_XDIST_WORKER" in os.environ:  # several threads in each of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def composed(*overrides: str) -> DictConfig:
    """The config of a job, with the ``hydra`` node."""
    cli.only_our_ray()
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def environment() -> dict[str, str]:
    """The process environment without logins, W&B offline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return {**kept, "WANDB_MODE": "offline", "HYDRA_FULL_ERROR": "0", "COLUMNS": "200"}


def command(*args: str) -> list[str]:
    """The `fmsteal` command line, run by this interpreter."""
    return [sys.executable, "-m", "fmsteal", *args]


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fmsteal(tmp_path: Path) -> Run:
    """Run the real command in an empty folder: ``fmsteal("budget=1k", ok=True)``."""

    def run(*args: str, ok: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(*args),
            cwd=cwd,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            assert done.returncode != 0, done.stdout + done.stderr
        return done

    return run


def only_run(root: Path) -> Path:
    """The folder of the one job below ``root / outputs``."""
    found: Sequence[Path] = [p for p in (root / "outputs" / "runs").iterdir() if p.is_dir()]
    assert len(found) == 1, found
    return found[0]
