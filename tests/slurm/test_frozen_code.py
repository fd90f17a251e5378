"""Jobs that wait in the queue run the code that they were submitted with."""

from __future__ import annotations

from pathlib import Path

from tests.support.checkout import checkout, spoil
from tests.support.commands import finish
from tests.support.composing import SMALL
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import start_cold, until


def test_editing_the_checkout_does_not_change_jobs_that_wait(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    variables = checkout(root)
    before = cluster.ask(
        "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"
    )
    sweep = start_cold(cluster, root, *SMALL, "sweep_id=mine", **variables)
    until(lambda: len(cluster.queue()) == 2, sweep)
    spoil(root)
    cluster.ask("scancel", before)
    assert "mine: 1 of 1 jobs" in finish(sweep)
