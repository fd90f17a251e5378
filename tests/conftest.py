"""What all tests share; builders to import are in `tests/support`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.support")  # so that a failing builder shows its values too
from fmsteal.base import on_hydra  # noqa: E402
from tests.support.commands import Run, environment  # noqa: E402
from tests.support.warm import Command  # noqa: E402

# The same examples in every run, however slow the machine is. To look for others: pytest --hypothesis-profile=search
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("same")

if "PYTEST_XDIST_WORKER" in os.environ:  # several threads in each of several processes would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _parsed_once() -> Iterator[None]:
    """As in each command, so that tests that compose configs take half the time."""
    with on_hydra.parsed_once():
        yield


@pytest.fixture
def fmsteal(tmp_path: Path) -> Run:
    """Run the real command in an empty folder: ``fmsteal("budget=1k", ok=True)``."""

    def run(*words: str, ok: bool = True, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        done = Command(words, cwd, environment()).done()
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    return run
