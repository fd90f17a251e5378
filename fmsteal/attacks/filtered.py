"""An adaptive attacker: leaves out the answers that a first thief finds least likely, as if they were defended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from fmsteal.attacks.base import ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.selection import Selection, select
from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Loss


@dataclass(frozen=True)
class Filtered:
    """As `Knockoff`, then once more without the answers farthest from what the first thief says of their images.

    Meant for defenses that leave most answers alone and make some of them wrong, as adaptive misinformation does: a
    thief that has learned from all of them agrees with the true ones. This is one step of least trimmed squares
    (Rousseeuw 1984) with another distance: the L1 norm of answer minus the first thief's probabilities. All answers
    are paid for, also those left out.

    Attributes:
        selection: chooses the images, without replacement.
        loss: takes the thief's logits and the answers.
        drop: share of the answers left out, above 0 and below 1.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED

    selection: Selection
    loss: Loss
    drop: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.drop < 1:
            raise ConfigError(f"attack.drop must be above 0 and below 1, not {self.drop}.")

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that is not enough for one image, or is for more than the pool holds."""
        affordable(budget, pool)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, fit a thief, leave answers out by it, and fit another."""
        ids = select(self.selection, pool, affordable(oracle.budget, pool), ctx)
        answers = oracle.ask(ids)
        first = ctx.fit_thief(pool, ids, answers, self.loss, stage="first")
        kept = find_nearest(answers, ctx.logits(first, pool, ids).softmax(dim=1), self.drop)
        return ctx.fit_thief(pool, ids[kept], answers[kept], self.loss)


def find_nearest(answers: Tensor, expected: Tensor, drop: float) -> Ids:
    """Indices of the answers ``(n, C)`` nearest in L1 to those expected, ascending; ``floor(drop n)`` are left out."""
    apart = (answers - expected).abs().sum(dim=1).numpy()
    return np.sort(np.argsort(apart, kind="stable")[: len(apart) - int(len(apart) * drop)])
