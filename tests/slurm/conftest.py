"""The clusters that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.slurm_cluster import Cluster, require_slurm, running_cluster, wait_for


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    require_slurm()
    with running_cluster() as running:
        yield running


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest) -> None:
    """A test begins once no job of another is in the queue; Slurm lists a job until it has tidied up after it."""
    if "cluster" in request.fixturenames:
        shared: Cluster = request.getfixturevalue("cluster")
        wait_for(lambda: not shared.queue(), shared, [])


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A cluster that soon notices that a node is dead, and that warns the jobs it preempts."""
    require_slurm()
    with running_cluster("one", "two", patience=10, controller="preempt_send_user_signal") as running:
        yield running
