"""Sweeps sent to Slurm, and what they wait for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import SoftFileLease

from tests.support.commands import command, environment
from tests.support.slurm_cluster import Cluster
from tests.support.warm import Command

LAUNCHER = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1")


def start(cluster: Cluster, root: Path, *words: str, **variables: str) -> Command:
    """Begin a sweep whose jobs Slurm runs, by a warm command; the jobs are cold."""
    return begin(cluster, root, "-m", *LAUNCHER, *words, **variables)


def begin(cluster: Cluster, root: Path, *words: str, **variables: str) -> Command:
    """Begin a warm command where there is Slurm."""
    return Command(words, root, {**surroundings(root), **cluster.environment, **variables}, joined=True)


def start_cold(
    cluster: Cluster, root: Path, *words: str, module: str = "fmsteal", **variables: str
) -> subprocess.Popen[str]:
    """Begin a sweep whose jobs Slurm runs, by a process that imports everything itself, as ``python -m MODULE``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, "-m", *LAUNCHER, *words],
        cwd=root,
        env={**surroundings(root), **cluster.environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_here(root: Path, *words: str) -> None:
    """The same sweep without Slurm."""
    subprocess.run(command("-m", *words), cwd=root, env=surroundings(root), check=True, capture_output=True)


def surroundings(root: Path) -> dict[str, str]:
    """The environment of a sweep: it finds the tests' callback, which writes down what was trained.

    One thread, as jobs with one core have: with more, sums are rounded in other ways.
    """
    found = {"PYTHONPATH": str(Path(__file__).parents[2]), "PAUSE_TRACE": str(root / "trace")}
    return {**environment(), **found, "OMP_NUM_THREADS": "1"}


def worker(job: Path) -> int:
    """The process that works on a job."""
    owner = SoftFileLease(job / ".running.lease").owner
    assert owner is not None
    return owner.pid


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended, and that nobody has asked about, has no command line."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def until(moment: Callable[[], object], sweep: subprocess.Popen[str] | Command) -> None:
    """Wait for a moment in a running sweep."""
    while not moment():
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
