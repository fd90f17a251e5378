"""A node that dies under its job: Slurm runs the job on another, where it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing, running_cluster
from tests.slurm.conftest import finish, run_here, start, until, worker
from tests.slurm.test_interrupted import JOB, assert_as_if_nothing_had_happened, folder, thief_has_trained


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    if missing():
        pytest.skip(f"Slurm is not installed (no {', '.join(missing())}): apt-get install slurm-wlm munge")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install -e '.[slurm]'")
    with running_cluster("one", "two", patience=10) as running:
        yield running


def kill_all_of(job: str) -> None:
    """Kill a job's processes at once, and Slurm's own that watch over them, so that nobody reports its end."""
    subprocess.run(["pkill", "-KILL", "-f", rf"slurmstepd: \[{job}\."], check=True)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"SLURM_JOB_ID={job}".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if ours and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


def test_a_job_outlives_its_node(two_nodes: Cluster, tmp_path: Path) -> None:
    undisturbed, ours = tmp_path / "undisturbed", tmp_path / "ours"
    for root in (undisturbed, ours):
        root.mkdir()
    run_here(undisturbed, *JOB)
    sweep = start(two_nodes, ours, *JOB, pause=2.0)
    until(lambda: thief_has_trained(ours, 2), sweep)
    (node,) = two_nodes.queue("%N")
    variables = Path(f"/proc/{worker(folder(ours))}/environ").read_bytes().split(b"\0")
    (number,) = [v.decode().partition("=")[2] for v in variables if v.startswith(b"SLURM_JOB_ID=")]
    two_nodes.nodes[node].kill()
    kill_all_of(number)
    said = finish(sweep)
    assert "one: 1 of 1 jobs" in said
    states = dict(line.split() for line in two_nodes.ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines())
    assert states[node].startswith("down"), states
    assert_as_if_nothing_had_happened(ours, undisturbed, 1)
