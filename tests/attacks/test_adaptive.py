"""Attackers that make something else of the answers: their labels, balanced labels, averages, smoothed averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.copycat import balance_classes
from fmsteal.attacks.losses import hard_cross_entropy, soft_cross_entropy
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Ids, Images
from fmsteal.defenses.base import NoDefense, RowDefense, RowGuard
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.context import Context
from tests.support.composing import composed
from tests.support.small_task import context

POOL = Images(np.random.default_rng(1).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8), "pool")
SURE = torch.softmax(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.5, 0, -1]), 1)


class Noisy(RowDefense):
    """Moves each answer by another random amount each time."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        noise = [0.2 * torch.randn(3, generator=ask.generator(row)) for row in range(len(answers))]
        return answers + torch.stack(noise)


class Listening(AttackContext):
    """A context that trains nothing: it keeps what a thief would have been trained on."""

    def __init__(self, job: Context) -> None:
        super().__init__(build.make(composed().thief), job)

    def fit_thief(self, pool: Images, ids: Ids, answers: Tensor, loss: Any, stage: str = "thief") -> nn.Module:
        self.ids, self.answers, self.loss = ids, answers, loss
        return nn.Identity()


def stolen(folder: Path, queries: int, *overrides: str, defense: Any = None) -> tuple[Listening, Oracle]:
    """What an attack trains its thief on, and the oracle that it asked."""
    attack = build.make(composed(*overrides).attack)
    job = context(folder)
    oracle = Oracle(
        answer_pool=lambda ids: SURE[ids],
        answer_images=lambda images: torch.zeros(len(images), 3),
        pool=POOL,
        guard=RowGuard(defense or NoDefense(), 3),
        budget=Budget(queries),
        ledger=Ledger(folder / "ledger.bin", "job"),
        seed=0,
    )
    attack.check(oracle.budget, POOL)
    thief = Listening(job)
    attack.run(oracle, POOL, thief)
    return thief, oracle


def test_top1_learns_labels_alone(tmp_path: Path) -> None:
    thief, oracle = stolen(tmp_path, 30, "attack=top1")
    assert oracle.used == len(thief.ids) == 30
    logits = torch.randn(30, 3)
    onehot = nn.functional.one_hot(SURE[thief.ids].argmax(1), 3).float()
    torch.testing.assert_close(thief.loss(logits, thief.answers), soft_cross_entropy(logits, onehot))


def test_copycat_balances_the_labels_and_pays_for_none_twice(tmp_path: Path) -> None:
    thief, oracle = stolen(tmp_path / "balanced", 31, "attack=copycat")
    assert oracle.used == 31 and thief.loss.func is hard_cross_entropy
    assert torch.equal(thief.answers, SURE[thief.ids])
    assert torch.bincount(thief.answers.argmax(1)).tolist() == [10, 10, 10]
    plain, _ = stolen(tmp_path / "plain", 31, "attack=copycat", "attack.balance=false")
    top1, _ = stolen(tmp_path / "top1", 31, "attack=top1")
    assert plain.ids.tolist() == top1.ids.tolist() and set(thief.ids) <= set(plain.ids)
    assert max(torch.bincount(plain.answers.argmax(1))) > 12


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
@settings(max_examples=80)
def test_balanced_rows_are_an_equal_share_of_each_label(labels: list[int], seed: int) -> None:
    rows = balance_classes(torch.tensor(labels), seed)
    each = len(labels) // len(set(labels))
    for label in set(labels):
        times = [rows.tolist().count(row) for row, found in enumerate(labels) if found == label]
        assert sum(times) == each and max(times) - min(times) <= 1
    assert len(rows) == each * len(set(labels))


@pytest.mark.parametrize(("repeats", "smoothing"), [(1, 0.0), (1, 0.3), (4, 0.1)])
def test_smoothing_pays_for_every_repeat_and_mixes_in_the_uniform(
    repeats: int, smoothing: float, tmp_path: Path
) -> None:
    overrides = ("attack=smoothing", f"attack.repeats={repeats}", f"attack.smoothing={smoothing}")
    thief, oracle = stolen(tmp_path, 23, *overrides)
    assert len(thief.ids) == len(set(thief.ids)) == 23 // repeats
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == 23 // repeats * repeats
    for row, i in zip(thief.answers, thief.ids, strict=True):
        wanted = [(1 - smoothing) * float(p) + smoothing / 3 for p in SURE[i]]
        torch.testing.assert_close(row, torch.tensor(wanted))


def test_averaging_takes_noise_away(tmp_path: Path) -> None:
    errors = {}
    for repeats in (1, 16):
        overrides = ("attack=smoothing", f"attack.repeats={repeats}", "attack.smoothing=0")
        thief, _ = stolen(tmp_path / str(repeats), 40 * repeats, *overrides, defense=Noisy())
        errors[repeats] = float((thief.answers - SURE[thief.ids]).std())
    assert errors[1] == pytest.approx(0.2, rel=0.25) and errors[16] == pytest.approx(0.05, rel=0.25)


def test_what_cannot_work_is_refused() -> None:
    made = build.make(composed("attack=smoothing").attack)
    with pytest.raises(ConfigError, match="asks 5 times about each image"):
        made.check(Budget(4), POOL)
    with pytest.raises(ConfigError, match="query set holds 40 images"):
        made.check(Budget(205), POOL)
    made.check(Budget(204), POOL)
    for wrong in ("attack.repeats=0", "attack.smoothing=1", "attack.smoothing=-0.1"):
        with pytest.raises(ConfigError, match=r"attack\.repeats must be"):
            build.make(composed("attack=smoothing", wrong).attack)
