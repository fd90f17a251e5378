"""W&B's service, a process beside the job's, may be killed at any moment: by Slurm, or for its memory."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import wandb

from fmsteal.tracking.wandb import WandbTracking
from tests.support.wandb_file import offline_runs
from tests.tracking.infos import info


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login from outside, and a service of the test's own."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()


def find_service() -> int:
    """The process of W&B's service."""
    children = " ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")).split()
    (found,) = [int(pid) for pid in children if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def test_a_service_that_ends_while_a_run_is_finished_is_not_the_next_runs(tmp_path: Path) -> None:
    """W&B no longer counts the run as open then, and keeps the connection: the next run would be sent through it."""
    with WandbTracking(mode="offline").open(info(tmp_path / "a", "a")) as tracker:
        tracker.log({"thief/loss": 1.0}, ("thief/epoch", 1))
        stopped = find_service()
        os.kill(stopped, signal.SIGSTOP)  # it takes what `finish` sends, and never answers
        threading.Timer(0.5, os.kill, (stopped, signal.SIGKILL)).start()
    with WandbTracking(mode="offline").open(info(tmp_path / "b", "b")) as tracker:
        tracker.log({"thief/loss": 2.0}, ("thief/epoch", 1))
    (run,) = offline_runs(tmp_path / "b")
    assert run.exit_code == 0 and run.curve("thief/epoch", "thief/loss") == [(1, 2.0)]


def test_a_service_that_ends_between_two_runs_is_started_again(tmp_path: Path) -> None:
    with WandbTracking(mode="offline").open(info(tmp_path / "a", "a")):
        pass
    os.kill(find_service(), signal.SIGKILL)
    with WandbTracking(mode="offline").open(info(tmp_path / "b", "b")) as tracker:
        tracker.log({"thief/loss": 2.0}, ("thief/epoch", 1))
    (run,) = offline_runs(tmp_path / "b")
    assert run.exit_code == 0 and run.curve("thief/epoch", "thief/loss") == [(1, 2.0)]
