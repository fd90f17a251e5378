"""The clusters that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.slurm_cluster import Cluster, require_slurm, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    require_slurm()
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A cluster that soon notices that a node is dead, and that warns the jobs it preempts."""
    require_slurm()
    with running_cluster("one", "two", patience=10, controller="preempt_send_user_signal") as running:
        yield running
