"""A killed attack goes on where its thieves come out differently: it asks what was chosen, and pays once.

Another machine's thieves differ in the last digits; here they have another seed, and differ in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import BudgetExceeded
from fmsteal.oracle import blocks
from fmsteal.oracle.ledger import Ledger, Question
from tests.support.colour_api import Killed, steal

QUERIES = 30
# What is asked by whom, the answers after which it is killed, and the end of the round that these are in.
ATTACKS = [
    (("attack=activethief", "attack/strategy=entropy", "attack.rounds=3"), 20, 23),
    (("attack=jbda",), 15, 24),
    (("attack=jbda_tr",), 15, 24),
    (
        ("attack=knockoff_adaptive", "attack.reward=loss", "attack.batch=2", "attack.clusters=4", "attack.lr=0.3"),
        23,
        24,
    ),
]
by_name = pytest.mark.parametrize(
    ("options", "dies_at", "end"), ATTACKS, ids=["activethief", "jbda", "jbda_tr", "bandit"]
)


def asked(folder: Path) -> list[Question]:
    return list(Ledger(folder / "ledger.bin", "job"))


def cut_off(folder: Path, dies_at: int, options: tuple[str, ...]) -> list[Question]:
    """What an attack has asked when it is killed in the middle of a round."""
    with pytest.raises(Killed):
        steal(folder, QUERIES, *options, dies_at=dies_at)
    return asked(folder)


@pytest.fixture(autouse=True)
def answers_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ANSWERED_AT_ONCE", 1)


@by_name
def test_it_asks_what_was_chosen(options: tuple[str, ...], dies_at: int, end: int, tmp_path: Path) -> None:
    steal(tmp_path / "whole", QUERIES, *options)
    wanted = asked(tmp_path / "whole")
    paid = cut_off(tmp_path / "cut", dies_at, options)
    assert dies_at == len(paid) < end and paid == wanted[:dies_at]
    _, api = steal(tmp_path / "cut", QUERIES, *options, "thief.seed=7")
    found = asked(tmp_path / "cut")
    assert found[:end] == wanted[:end]  # what was chosen before the kill
    assert api.used == len(found) == QUERIES and found != wanted  # what comes after is another thief's choice


@by_name
def test_without_what_was_kept_it_would_ask_for_more_than_its_budget(
    options: tuple[str, ...], dies_at: int, end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(self: AttackContext, name: str, make: Callable[[], Any]) -> Any:
        return make()

    monkeypatch.setattr(AttackContext, "kept", made)
    cut_off(tmp_path, dies_at, options)
    with pytest.raises(BudgetExceeded):
        steal(tmp_path, QUERIES, *options, "thief.seed=7")
