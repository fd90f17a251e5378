"""Knockoff Nets (Orekondy et al., CVPR 2019), random policy: ask about pool images, train on the answers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.selection import Selection
from fmsteal.data.images import Images
from fmsteal.errors import ConfigError
from fmsteal.modules.classifier import Loss
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True)
class Knockoff:
    """Asks once about as many pool images as the budget allows.

    Attributes:
        selection: chooses the images, without replacement.
        loss: of the thief's logits and the answers.
    """

    selection: Selection
    loss: Loss

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that the pool cannot use up."""
        if budget.queries > len(pool):
            raise ConfigError(
                f"The budget is {budget.queries} queries, but the query set holds {len(pool)} images and each is asked "
                "about once. Choose a smaller budget (budget=...) or a larger query set (query=..., query.count=N)."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, then fit a thief to the transfer set."""
        ids = self.selection(len(pool), oracle.budget.queries, ctx.seed)
        answers = oracle.ask(ids)
        return ctx.fit_thief(pool, ids, answers, self.loss)
