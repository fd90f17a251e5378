"""Sweeps on a real Slurm that share a theft: at the same time, and later, to measure more of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fmsteal.records import results
from tests.support.commands import finish
from tests.support.composing import SMALL
from tests.support.outputs import only_theft
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import LAUNCHER, begin, start, until

QUERIES, EPOCHS = 100, 2
JOB = (
    *SMALL, f"thief.recipe.epochs={EPOCHS}", "thief.recipe.min_steps=0",
    "trainer.callbacks=[{_target_:tests.support.pause.Pause}]",
)  # fmt: skip


@dataclass(frozen=True)
class Both:
    """Two sweeps that have gone through, and a third that was left in the queue.

    Attributes:
        root: where they were begun.
        said: by each.
        launched: the Slurm jobs of each, by name.
    """

    root: Path
    said: dict[str, str]
    launched: dict[str, list[str]]


def folder(root: Path, sweep: str) -> Path:
    (found,) = (p.parent for p in root.glob(f"outputs/sweeps/{sweep}/*/.hydra"))
    return found


def has_waited(root: Path, sweep: str) -> bool:
    jobs = results.list_begun(root / "outputs" / "sweeps" / sweep)
    return [job.state for job in jobs] == [results.WAITING]


def result(root: Path, sweep: str) -> dict[str, Any]:
    return json.loads((folder(root, sweep) / "result.json").read_text())  # type: ignore[no-any-return]


def launched(root: Path, sweep: str) -> list[str]:
    return sorted(p.name for p in root.glob(f"outputs/sweeps/{sweep}/.submitit/*") if p.is_dir())


def epochs_of_thieves(root: Path) -> int:
    trace = root / "trace"
    return sum(line.startswith("thief ") for line in trace.read_text().splitlines()) if trace.exists() else 0


@pytest.fixture(scope="module")
def both(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The first holds the theft until the others' jobs have ended without a result and left their place to others."""
    root = tmp_path_factory.mktemp("both")
    go = root / "go"
    first = start(cluster, root, *JOB, "sweep_id=first", PAUSE_UNTIL=str(go))
    until(lambda: epochs_of_thieves(root), first)
    second = start(cluster, root, *JOB, "sweep_id=second")
    finish(start(cluster, root, *JOB, "sweep_id=third", "hydra.launcher.wait=false"))
    try:
        for sweep in ("second", "third"):
            until(lambda sweep=sweep: has_waited(root, sweep), second)  # type: ignore[misc]
        until(lambda: not set(launched(root, "second")) & set(cluster.queue()), second)
        assert first.poll() is None and not (folder(root, "second") / "failure.json").exists()
        before = launched(root, "second")
    finally:
        go.touch()
    said = {"first": finish(first), "second": finish(second)}
    said["third"] = finish(begin(cluster, root, "status", "outputs/sweeps/third", "--watch", "--every=1"))
    assert len(before) == 1 and len(launched(root, "second")) == 2, "it was run again once"
    return Both(root, said, {sweep: launched(root, sweep) for sweep in said})


def test_one_steals_and_the_others_job_is_run_again(both: Both) -> None:
    ours, theirs = (result(both.root, sweep) for sweep in ("first", "second"))
    theft = only_theft(both.root)
    for sweep, found in (("first", ours), ("second", theirs)):
        assert f"{sweep}: 1 of 1 jobs" in both.said[sweep]
        assert (folder(both.root, sweep) / found["theft"]).resolve() == theft.path
        left = {p.name for p in folder(both.root, sweep).iterdir()}
        assert not left & {"waiting.json", "theft.txt", "failure.json", "work"}
    assert ours["metrics"] == theirs["metrics"] and ours["settings"] == theirs["settings"]
    assert ours["cost"]["cost/usd_billed"] == ours["cost"]["cost/usd"] == theirs["cost"]["cost/usd"] > 0
    assert theirs["cost"]["cost/usd_billed"] == 0


def test_each_answer_is_in_the_ledger_once(both: Both) -> None:
    seal = json.loads(only_theft(both.root).seal.read_text())
    assert seal["ledger"]["rows"] == seal["cost"]["cost/victim_forwards"] == QUERIES
    answers = only_theft(both.root).ledger.read_bytes().partition(b"\n")[2]
    assert len(answers) == QUERIES * (4 + 4 + 16 + 4 + 4 * seal["ledger"]["width"])
    assert epochs_of_thieves(both.root) == EPOCHS


def test_a_job_that_nobody_waits_for_puts_itself_back_into_the_queue(both: Both) -> None:
    assert "third: 1 jobs: 1 done" in both.said["third"]
    assert result(both.root, "third")["cost"]["cost/usd_billed"] == 0
    (job,) = launched(both.root, "third")
    (log,) = (both.root / "outputs" / "sweeps" / "third" / ".submitit" / job).glob("*.out")
    assert "queued again" in log.read_text()


def test_evaluate_measures_on_slurm_without_a_query(cluster: Cluster, both: Both) -> None:
    theft, before = only_theft(both.root), result(both.root, "second")
    kept = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (theft.ledger, theft.thief, theft.seal)}
    done = finish(begin(cluster, both.root, "evaluate", "outputs/sweeps/second", "evaluation=similarity", *LAUNCHER))
    assert "second: 1 of 1 jobs" in done
    after = result(both.root, "second")
    assert "test/cka" in after["metrics"].keys() - before["metrics"].keys()
    assert after["metrics"].items() >= before["metrics"].items()
    assert after["cost"]["cost/queries"] == QUERIES and after["theft"] == before["theft"]
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in kept} == kept
    assert epochs_of_thieves(both.root) == EPOCHS
    assert len(launched(both.root, "second")) == len(both.launched["second"]) + 1, "one Slurm job measured it"
    assert "test/cka" not in result(both.root, "first")["metrics"]
