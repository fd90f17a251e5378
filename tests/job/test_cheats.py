"""Attacks that cheat end in a refused theft, with their ledger kept and no result; an honest one is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.errors import TheftError
from tests.job.cheats import MORE
from tests.job.jobs import QUERIES, answers, job, read, run_job, theft

CHEATS = {
    "AsksThroughClosure": (f"look at {MORE} images past the oracle", QUERIES),
    "ShowsThroughClosure": (f"look at {MORE} images past the oracle", QUERIES),
    "AsksAfterFailure": ("images past the oracle", QUERIES),
    "ReplacesAllowance": (f"given {QUERIES + MORE} answers, {QUERIES} being its budget", QUERIES + MORE),
    "ChangesBudget": (f"given {QUERIES + MORE} answers, {QUERIES} being its budget", QUERIES + MORE),
    "EmptiesLedger": (f"holds {QUERIES} answers, but {2 * QUERIES} left the API", QUERIES),
    "TruncatesLedger": (f"holds {QUERIES - MORE} answers, but {QUERIES} left the API", QUERIES - MORE),
    "FindsByGarbageCollector": (f"look at {MORE} images past the oracle", QUERIES),
    "FindsInClosures": (f"look at {MORE} images past the oracle", QUERIES),
    "CallsForward": (f"look at {MORE} images past the oracle", QUERIES),
}


def attack(name: str) -> str:
    return f"attack._target_=tests.job.cheats.{name}"


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_by_name_and_its_ledger_kept(name: str, cache: Path, tmp_path: Path) -> None:
    says, left = CHEATS[name]
    for again in range(2 if left != QUERIES or "Ledger" in name else 1):  # again it comes to the same end
        with pytest.raises(TheftError, match=f"tests.job.cheats.{name}") as caught:
            run_job(tmp_path, f"cache={cache}", attack(name))
        folder = theft(tmp_path)
        assert not folder.seal.exists() and not job(tmp_path).result.exists()
        assert not folder.thief.exists() and not folder.measurements.exists()
        if not again:
            assert says in str(caught.value) and "not sealed" in str(caught.value)
            assert str(folder.ledger.name) in str(caught.value) and "force=true" in str(caught.value)
            assert f"cheats.{name}" in read(folder.refused)["why"]
            assert answers(folder) == left


def test_answers_that_were_lost_stay_lost(cache: Path, tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(TheftError, match=r"left the API under tests\.job\.cheats\.CheatsOnce"):
            run_job(tmp_path, f"cache={cache}", attack("CheatsOnce"))
    assert not theft(tmp_path).seal.exists()
    result = run_job(tmp_path, f"cache={cache}", attack("Honest"), name="honest")
    assert result["theft"] != read(theft(tmp_path).refused)["key"]


def test_an_honest_attack_is_sealed(cache: Path, tmp_path: Path) -> None:
    result = run_job(tmp_path, f"cache={cache}", attack("Honest"))
    folder = theft(tmp_path)
    assert result["cost"]["cost/queries"] == QUERIES == answers(folder) == read(folder.seal)["ledger"]["rows"]
    assert folder.thief.exists() and not folder.refused.exists()
