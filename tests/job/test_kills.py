"""Killed anywhere, several times in a row: no answer is paid twice, and all is as if nothing had happened.

The slow tests kill more often when asked to: ``FMSTEAL_KILLS=10 FMSTEAL_SWEEP_KILLS=30 pytest -m slow tests/job``.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.job.jobs import RECORD, read, thefts
from tests.job.killed import ATTACKS, JOB, Left, finish, kill_at, kill_repeatedly, ledger, start, words

KILLS = int(os.environ.get("FMSTEAL_KILLS", "4"))  # of a job of each attack
SWEEP_KILLS = int(os.environ.get("FMSTEAL_SWEEP_KILLS", "8"))


def undisturbed(root: Path, *given: str) -> tuple[Left, float]:
    """What a job leaves that nobody kills, and the seconds that it takes."""
    finish(start(root / "first", *given))  # makes what lies in the cache
    began = time.monotonic()
    finish(start(root / "whole", *given))
    return Left.of(root / "whole"), time.monotonic() - began


def kill(attack: str, kills: int, seed: int, cache: Path, root: Path) -> int:
    """Kill a job of an attack so often, job after job as long as it takes; each ends as an undisturbed one."""
    given, chance, met, number = words(attack, cache), random.Random(f"{attack} {seed}"), 0, 0
    due, seconds = undisturbed(root, *given)
    while met < kills and number < 3 * kills:
        place = root / f"killed-{number}"
        met += kill_repeatedly(place, min(4, kills - met), seconds, chance, *given)
        Left.of(place).require_same(due)
        shutil.rmtree(place)
        number += 1
    return met


@pytest.mark.parametrize("attack", ["knockoff", pytest.param("activethief", marks=pytest.mark.slow)])
def test_killed_twice_it_ends_as_if_nothing_had_happened(attack: str, cache: Path, tmp_path: Path) -> None:
    assert kill(attack, 2, 0, cache, tmp_path) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_killed_many_times_it_ends_as_if_nothing_had_happened(attack: str, cache: Path, tmp_path: Path) -> None:
    assert kill(attack, KILLS, 1, cache, tmp_path) == KILLS


SWEEP = ("-m", *JOB, "sweep_id=killed", "budget.queries=40,60", "evaluation=classify,similarity", "evaluation.k=3")


def sweep_words(cache: Path) -> tuple[str, ...]:
    ours = "victim._target_=fmsteal.victims.classifier.ClassifierVictim"
    return *SWEEP, ours, f"cache={cache}"


def results(root: Path) -> dict[str, dict[str, float]]:
    return {p.parent.name: read(p)["metrics"] for p in root.glob("outputs/sweeps/killed/*/result.json")}


@pytest.mark.slow
def test_killed_sweeps_go_on(cache: Path, tmp_path: Path) -> None:
    given, chance = sweep_words(cache), random.Random(2)
    finish(start(tmp_path / "first", *given))
    began = time.monotonic()
    finish(start(tmp_path / "whole", *given))
    seconds, due, paid = time.monotonic() - began, results(tmp_path / "whole"), ledger(tmp_path / "whole")
    assert len(due) == 2
    met, number = 0, 0
    while met < SWEEP_KILLS and number < 2 * SWEEP_KILLS:
        place = tmp_path / f"killed-{number}"
        for _ in range(min(4, SWEEP_KILLS - met)):
            met += kill_at(place, chance.uniform(0.1, 1.0) * seconds, *given)
        finish(start(place, *given))
        assert results(place) == due and ledger(place) == paid
        shutil.rmtree(place)
        number += 1
    assert met == SWEEP_KILLS


@pytest.mark.slow
def test_two_jobs_and_two_sweeps_that_want_one_theft_steal_once(cache: Path, tmp_path: Path) -> None:
    given = words("knockoff", cache)
    running = [
        start(tmp_path, *given),
        start(tmp_path, *given, "evaluation.k=3", "hydra.run.dir=outputs/runs/elsewhere"),
        start(tmp_path, "-m", *given, "sweep_id=one", "evaluation.k=2,3"),
        start(tmp_path, "-m", *given, "sweep_id=two", "evaluation.k=4"),
    ]
    said = [finish(command) for command in running]
    assert sum("train thief" in text for text in said) == 1, said
    assert len(thefts(tmp_path / "outputs")) == 1
    assert len(ledger(tmp_path).partition(b"\n")[2]) == 100 * RECORD
    found = [read(p) for p in (tmp_path / "outputs").rglob("result.json")]
    assert len(found) == 4 and sum(r["cost"]["cost/usd_billed"] > 0 for r in found) == 1
    assert len({r["metrics"]["test/agreement"] for r in found}) == 1
