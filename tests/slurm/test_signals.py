"""Who hears the signals of a cluster in mid-training: the job's own handler, and nobody else."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from fmsteal.training.recipe import Recipe
from fmsteal.training.trainer import KeepSignals
from tests.support.commands import environment
from tests.support.fitting import fitted, linear
from tests.support.wandb_file import offline_runs

RECIPE = Recipe(epochs=3, batch_size=16, optimizer="sgd", lr=0.05)


class Warned(nn.Module):
    """A network whose process gets a signal at its second step."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.net, self.number, self.steps = linear(), number, 0

    def forward(self, x):  # type: ignore[no-untyped-def]
        self.steps += 1
        if self.steps == 2:
            os.kill(os.getpid(), self.number)
        return self.net(x)


@pytest.fixture
def heard() -> Iterator[list[int]]:
    numbers: list[int] = []
    kept = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
    for number in kept:
        signal.signal(number, lambda number, frame: numbers.append(number))
    yield numbers
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_the_training_goes_on_and_the_jobs_handler_hears(number: int, heard: list[int], tmp_path: Path) -> None:
    net = Warned(number)
    fitted(tmp_path, RECIPE, net)
    assert heard == [number] and net.steps == 3 * 3


def test_a_handler_that_exits_ends_the_training(tmp_path: Path, heard: list[int]) -> None:
    def leave(number: int, frame: object) -> None:
        raise SystemExit(-1)  # as submitit's does, after it has queued the job again

    signal.signal(signal.SIGUSR2, leave)
    net = Warned(signal.SIGUSR2)
    with pytest.raises(SystemExit):
        fitted(tmp_path, RECIPE, net)
    assert net.steps == 2


def test_processes_that_only_train_ignore_what_the_job_handles(heard: list[int]) -> None:
    there = pickle.loads(pickle.dumps(KeepSignals()))
    assert there.handlers[signal.SIGTERM] == there.handlers[signal.SIGUSR2] == signal.SIG_IGN


SERVICE_ENDS = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from fmsteal.tracking.base import RunInfo
from fmsteal.tracking.wandb import WandbTracking

run = RunInfo("job", Path.cwd(), {}, {}, "sweep", "abc")
with WandbTracking().open(run) as tracker:
    tracker.log({"thief/loss": 2.0}, ("thief/epoch", 1))
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb"], capture_output=True, text=True)
    (service,) = map(int, children.stdout.split())
    if sys.argv[1] == "training":
        os.kill(service, signal.SIGTERM)
        while Path(f"/proc/{service}/cmdline").read_text():
            time.sleep(0.01)
    for epoch in (2, 3):
        tracker.log({"thief/loss": 1.0}, ("thief/epoch", epoch))
    tracker.summary({"test/agreement": 0.5})
    if sys.argv[1] == "finishing":  # the run is being closed, and waits for the service's answer
        os.kill(service, signal.SIGSTOP)
        threading.Timer(1.0, os.kill, (service, signal.SIGKILL)).start()
with WandbTracking().open(run) as tracker:
    tracker.log({"thief/loss": 0.5}, ("thief/epoch", 4))
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("while_it_is", ["training", "finishing"])
def test_the_end_of_wandbs_service_is_not_the_jobs(while_it_is: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", SERVICE_ENDS, while_it_is]
    variables = {**environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "done", done.stderr
    assert (tmp_path / "metrics.csv").read_text().count("thief/loss") == 4
    again = offline_runs(tmp_path)[-1]  # a run that is opened again gets all points, and a service of its own
    assert again.exit_code == 0
    assert {x for x, _ in again.curve("thief/epoch", "thief/loss")} == {1, 2, 3, 4}
