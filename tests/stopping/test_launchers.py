"""Sweeps whose jobs run in processes of their own, told to end wherever their jobs are."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import finish
from tests.support.ray_cluster import running_cluster
from tests.support.stopping.cold import PLACES, Cold
from tests.support.stopping.stopped import OFFLINE, SWEEP, assert_stopped

pytestmark = pytest.mark.slow

LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "ray": ("hydra/launcher=ray", "hydra.launcher.num_cpus=1", "hydra.launcher.own.num_cpus=2"),
}
WHERE = [
    (launcher, place, number)
    for launcher, numbers in (("joblib", (signal.SIGTERM, signal.SIGINT)), ("ray", (signal.SIGINT, signal.SIGTERM)))
    for place, number in zip(PLACES[1:], 2 * numbers, strict=True)
]


def require(launcher: str) -> None:
    """Skip where it is not installed."""
    needed = {"joblib": "hydra_plugins.hydra_joblib_launcher", "ray": "ray"}[launcher]
    pytest.importorskip(needed, reason=f"pip install -e '.[{launcher}]'")


@pytest.mark.parametrize(("launcher", "place", "number"), WHERE)
def test_a_sweep_ends_with_its_workers(launcher: str, place: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C as a terminal sends it to all processes, SIGTERM as `kill` does to one."""
    require(launcher)
    words = (*SWEEP, *LAUNCHERS[launcher], *OFFLINE)
    cold = Cold(tmp_path, *words, place=place)
    assert cold.until_held() != cold.process.pid
    assert assert_stopped(cold, tmp_path, number, terminal=number == signal.SIGINT) == ["fmsteal", *words]
    if place == "measuring":
        finish(Cold(tmp_path, *words).process)
        results = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")]
        assert [result["cost"]["cost/queries"] for result in results] == [20, 20]


def test_jobs_on_a_ray_cluster_end_with_the_command_and_the_cluster_stays(tmp_path: Path) -> None:
    require("ray")
    (tmp_path / "nodes").mkdir()
    with running_cluster(tmp_path / "nodes") as cluster:
        words = (*SWEEP, "hydra/launcher=ray", "hydra.launcher.num_cpus=1")
        cold = Cold(tmp_path, *words, f"hydra.launcher.address={cluster.address}", place="training thief")
        job = cold.until_held()
        assert_stopped(cold, tmp_path, signal.SIGTERM)
        end = time.monotonic() + 20
        while Path(f"/proc/{job}").exists():
            assert time.monotonic() < end, "its worker goes on"
            time.sleep(0.1)
        os.kill(cluster.second, 0)
