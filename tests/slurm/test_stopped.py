"""A sweep on a real Slurm whose command is told to end: its jobs are cancelled, not failed, and go on another time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import finish
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import LAUNCHER
from tests.support.stopping.cold import PLACES, Cold
from tests.support.stopping.stopped import SWEEP, assert_stopped

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("place", "number"), zip(PLACES[1:], 2 * [signal.SIGINT, signal.SIGTERM], strict=True)
)  # fmt: skip
def test_the_jobs_of_a_stopped_command_are_cancelled(place: str, number: int, cluster: Cluster, tmp_path: Path) -> None:
    """Those that run and, of the thieves, the one that waits."""
    words = (*SWEEP, *LAUNCHER, "hydra.launcher.array_parallelism=1")
    cold = Cold(tmp_path, *words, place=place, **cluster.environment)
    cold.until_held()
    queued = cluster.queue("%T")
    assert queued.count("RUNNING") == 1 and len(queued) == (1 if place == "training victim" else 2)
    assert assert_stopped(cold, tmp_path, number, terminal=number == signal.SIGINT) == ["fmsteal", *words]
    end = time.monotonic() + 60
    while cluster.queue():
        assert time.monotonic() < end, cluster.queue("%i %T")
        time.sleep(0.2)
    assert not list(tmp_path.rglob("failure.json"))
    if place == "measuring":
        finish(Cold(tmp_path, *words, **cluster.environment).process)
        results = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")]
        assert [result["cost"]["cost/queries"] for result in results] == [20, 20]
