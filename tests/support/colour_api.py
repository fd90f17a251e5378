"""A classification API for tests of attacks: it tells images by the colours of their halves, and costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context

CLASSES = 4
RANDOM = np.random.default_rng(2)
LEVELS = RANDOM.integers(0, 200, (80, 3, 2, 1)).repeat(8, axis=2)
POOL = Images((LEVELS + RANDOM.integers(0, 56, (80, 3, 16, 16))).astype(np.uint8), "pool")
THIEF = ("thief=resnet10t", "thief.backbone.size=16", "+thief.backbone.options.channels=[8,8,16,16]")
QUICK = (*THIEF, "thief.recipe.epochs=1", "thief.recipe.min_steps=0", "thief.recipe.batch_size=16")


class Colours(nn.Module):
    """Logits that are linear in the mean colours of an image's halves."""

    width = CLASSES

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(3))
        self.register_buffer("weights", 8 * weights)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return nn.functional.adaptive_avg_pool2d(x, (2, 1)).flatten(1) @ self.weights


class Killed(Exception):
    """The process ends here."""


def oracle_for(ctx: Context, queries: int, pool: Images = POOL, dies_at: int | None = None) -> Oracle:
    """An API in front of it; it kills the job once a number of queries are answered."""
    victim = Victim("colours", Colours(), "probabilities")

    def on_answer(used: int, budget: int) -> None:
        if dies_at is not None and used >= dies_at:
            raise Killed

    return in_front_of(victim, pool, ctx, queries, on_answer=on_answer)


def steal(
    folder: Path, queries: int, *overrides: str, pool: Images = POOL, dies_at: int | None = None
) -> tuple[Any, Oracle]:
    """The thief of an attack as configured, and the API it asked."""
    cfg = composed(*QUICK, *overrides)
    ctx = context(folder)
    attack, oracle = build.make(cfg.attack), oracle_for(ctx, queries, pool, dies_at)
    attack.check(oracle.budget, pool)
    return attack.run(oracle, pool, AttackContext(build.make(cfg.thief), ctx)), oracle


def killed_and_again(folder: Path, queries: int, dies_at: int, *overrides: str) -> tuple[Any, Any]:
    """The thief of a run that was never killed, and that of one that was, with equal ledgers asserted."""
    whole, _ = steal(folder / "whole", queries, *overrides)
    try:
        steal(folder / "cut", queries, *overrides, dies_at=dies_at)
        raise AssertionError("it was not killed")
    except Killed:
        pass
    paid = len(Ledger(folder / "cut" / "ledger.bin", "job"))
    assert dies_at <= paid < queries
    again, _ = steal(folder / "cut", queries, *overrides)
    ledgers = [Ledger(folder / name / "ledger.bin", "job") for name in ("whole", "cut")]
    np.testing.assert_array_equal(ledgers[0].answers, ledgers[1].answers)
    return whole, again


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models are equal to the last bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def tensor(ids: np.ndarray) -> Tensor:
    """Pool images as float ``(n, 3, H, W)`` in [0, 1]: the same as synthesised ones."""
    return torch.from_numpy(np.asarray(POOL.pixels[ids])).float() / 255
