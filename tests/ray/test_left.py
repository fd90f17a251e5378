"""A sweep that is left to a Ray cluster by `ray job submit`: no shell of the person who began it is needed any more."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import command, environment
from tests.support.composing import SMALL
from tests.support.ray_cluster import VARIABLES, Cluster, running_cluster
from tests.support.slurm_sweeps import surroundings
from tests.support.warm import Command

pytest.importorskip("aiohttp_cors", reason="pip install -e '.[ray]'")  # of Ray's job server
EPOCHS = 4
SWEEP = (
    *SMALL, "budget.queries=200", f"thief.recipe.epochs={EPOCHS}", "thief.recipe.min_steps=0", "victim.seed=0",
    "seed=0,1", "trainer.checkpoint_seconds=0", "trainer.callbacks=[{_target_:tests.support.pause.Pause}]",
    "sweep_id=mine", "hydra/launcher=ray", "hydra.launcher.num_cpus=1",
)  # fmt: skip


def until(moment: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not moment():
        assert time.monotonic() < end
        time.sleep(0.2)


def ray(cluster: Cluster, *words: str) -> str:
    """Run a command of Ray's; what it says."""
    called = [sys.executable, "-m", "ray.scripts.scripts", *words]
    variables = {**environment(), **VARIABLES, "RAY_ADDRESS": cluster.jobs}
    return subprocess.run(called, env=variables, capture_output=True, text=True, check=True, timeout=120).stdout


def leave(cluster: Cluster, here: Path, go: Path) -> str:
    """Submit the sweep, whose thieves wait for the file ``go``, from a shell that is hung up as soon as its command has
    returned; the id of Ray's job.
    """
    words = shlex.join(command("-m", *SWEEP, f"hydra.launcher.address={cluster.address}"))
    exports = {**surroundings(here), "PAUSE_UNTIL": str(go)}
    names = ("PYTHONPATH", "PAUSE_TRACE", "PAUSE_UNTIL", "OMP_NUM_THREADS", "WANDB_MODE")
    line = f"cd {here} && " + " ".join(f"{name}={exports[name]}" for name in names) + f" {words}"
    submit = shlex.join(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--no-wait", "--", "sh", "-c", line]
    )
    said = here.parent / f"submitted-{go.name}"
    shell = subprocess.Popen(
        ["bash", "-c", f"{submit} > {said} 2>&1; touch {said}.returned; sleep 600"],
        env={**environment(), **VARIABLES, "RAY_ADDRESS": cluster.jobs},
        start_new_session=True,
    )
    until(Path(f"{said}.returned").exists)
    os.killpg(shell.pid, signal.SIGHUP)
    shell.wait(timeout=30)
    return next(word.strip("'") for word in said.read_text().split() if word.startswith("'raysubmit_"))


def ask(here: Path, *words: str) -> str:
    """What a command says of the sweep, from anywhere."""
    name, *more = words
    return Command((name, str(here / "outputs/sweeps/mine"), *more), Path.cwd(), surroundings(here), True).done().stdout


def test_a_sweep_left_to_ray_is_followed_stopped_and_continued(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    here = tmp_path / "here"
    here.mkdir()
    trace = here / "trace"

    def trained() -> list[str]:
        return [line for line in trace.read_text().splitlines() if line.startswith("thief")] if trace.exists() else []

    with running_cluster(tmp_path / "nodes", job_server=True) as cluster:
        first = leave(cluster, here, here / "never")
        until(lambda: len(trained()) or list(here.glob("outputs/thefts/*/ledger.bin")))
        assert "running" in ask(here, "status")
        told = ask(here, "cancel")
        assert "nothing to cancel" in told and "ray job stop" in told
        paid = {ledger: ledger.read_bytes() for ledger in here.glob("outputs/thefts/*/ledger.bin")}
        ray(cluster, "job", "stop", first)
        until(lambda: " running" not in ask(here, "status"))
        leave(cluster, here, here / "go")
        until(lambda: " running" in ask(here, "status"))
        (here / "go").touch()
        assert "mine: 2 jobs: 2 done" in " ".join(ask(here, "status", "--watch").split())
        kept = {ledger: ledger.read_bytes()[: len(before)] for ledger, before in paid.items()}
        assert kept == paid  # nothing that was answered is asked again
    assert 2 * EPOCHS <= len(trained()) <= 2 * EPOCHS + 2
