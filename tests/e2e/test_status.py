"""`fmsteal status` and `fmsteal results` on a real sweep: while it runs, after a job was killed, when it is done."""

from __future__ import annotations

import csv
import io
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import Run, start
from tests.support.composing import SMALL
from tests.support.outputs import in_thief_training

SWEEP = (
    "-m", *SMALL, "sweep_id=mine", "seed=0,1", "victim.seed=0", "budget.queries=200", "thief.recipe.epochs=8",
    "trainer.checkpoint_seconds=0",
)  # fmt: skip
FOLDER = "outputs/sweeps/mine"


@pytest.mark.slow
def test_status_while_a_sweep_runs_after_a_kill_and_at_the_end(fmsteal: Run, tmp_path: Path) -> None:
    sweep = start(*SWEEP, cwd=tmp_path)
    try:
        while not in_thief_training(tmp_path):
            assert sweep.poll() is None, sweep.said()
            time.sleep(0.01)
        sweep.send_signal(signal.SIGSTOP)  # so that it stays where it is while it is looked at
        running = fmsteal("status", FOLDER).stdout
    finally:
        sweep.send_signal(signal.SIGKILL)
        sweep.communicate()
    assert "mine: 2 jobs: 1 running, 1 missing" in running and "cut off" not in running
    assert re.search(r"│ thief epoch \d+ of 8 +│", running)

    killed = fmsteal("status", FOLDER).stdout
    assert (
        "mine: 2 jobs: 1 killed, 1 missing" in killed
        and "cut off" in killed
        and f"log {FOLDER}/digits-resnet10t" in killed
    )
    again = re.search(r"what is left is done by: fmsteal (.*)", killed)
    assert again is not None
    row = next(csv.DictReader(io.StringIO(fmsteal("results", FOLDER, "--csv", "-").stdout)))
    assert (row["state"], row["seed"], row["axis.thief"], row["axis.queries"]) == ("killed", "0", "resnet10t", "200")

    fmsteal(*again[1].split())
    done = fmsteal("status", FOLDER, "--watch").stdout  # nothing to wait for: it says so and ends
    assert "mine: 2 jobs: 2 done" in done and "what is left" not in done
    rows = list(csv.DictReader(io.StringIO(fmsteal("results", FOLDER, "--csv", "-").stdout)))
    assert {(r["state"], r["seed"], r["cost/queries"]) for r in rows} == {("done", "0", "200"), ("done", "1", "200")}
    assert all(float(r["test/agreement.low"]) <= float(r["test/agreement"]) for r in rows)
