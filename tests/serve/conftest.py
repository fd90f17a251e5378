"""A finished job and a service of its victim, shared by the tests that only ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmsteal
from tests.support.composing import SMALL
from tests.support.serving import Service, write_clients


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> fmsteal.Job:
    root, before = tmp_path_factory.mktemp("served"), Path.cwd()
    os.chdir(root)
    try:
        return fmsteal.run(SMALL)
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def cache(job: fmsteal.Job) -> str:
    """The override by which a job finds the small victim trained."""
    return f"cache={job.folder.parents[1] / 'cache'}"


@pytest.fixture(scope="module")
def service(job: fmsteal.Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The job's victim, without a defense, for several clients; the key of each is its name."""
    folder = tmp_path_factory.mktemp("service")
    clients = {
        "alice": {"price_per_1000": 2.0}, "bob": {"budget": 5}, "carol": {"per_second": 2}, "dora": {"budget": 100},
        "eve": {}, "nobody": {"budget": 0},
    }  # fmt: skip
    running = Service(folder, str(job.folder), *write_clients(folder / "clients.json", **clients))
    yield running
    assert running.stop() == 0, running.said
