"""Knockoff Nets (Orekondy et al., CVPR 2019), random policy: ask about pool images, train on the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from fmsteal.attacks.base import ONLY_FITTED, AttackContext, affordable, mean_answer
from fmsteal.attacks.selection import Selection, select
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Loss
from fmsteal.training.held_out import By, HeldOut, require_choice, require_each_class


@dataclass(frozen=True)
class Knockoff:
    """Asks about as many pool images as the budget allows, then trains a thief on the answers.

    A method that does something else with the questions or the answers overrides its training set (`transfer_set`)
    and how often it asks about an image (`asks`).

    Attributes:
        selection: chooses the images, without replacement.
        loss: takes the thief's logits and the answers.
        validation: share of the images held out to choose the best epoch, paid for like the others; with 0 the last
            epoch's weights are kept.
        by: measures epochs on the held-out images: ``agreement`` or ``macro_f1`` with the answers' argmax.
        every: measure once in this many epochs.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED

    selection: Selection
    loss: Loss
    validation: float = field(default=0.0, kw_only=True)
    by: By = field(default="agreement", kw_only=True)
    every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_choice(self.validation, self.by, self.every)

    @property
    def asks(self) -> int:
        """Questions about each image; the budget is enough for ``budget // asks`` images."""
        return 1

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that is not enough for one image, or is for more than the pool holds."""
        affordable(budget, pool, self.asks)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, then fit a thief to the transfer set.

        Raises:
            ConfigError: fewer images are held out than there are classes; before any query.
        """
        asked, kept = self.choose(oracle, pool, ctx)
        ids, answers = self.transfer_set(oracle, asked, ctx.seed)
        if not len(kept):
            return ctx.fit_thief(pool, ids, answers, self.loss)
        held_out = HeldOut(kept, mean_answer(oracle, kept, self.asks), None, self.by, self.every)
        return ctx.fit_thief(pool, ids, answers, self.loss, held_out=held_out)

    def choose(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> tuple[Ids, Ids]:
        """The images to train on, and those to hold out, of the pool images that the budget is enough for.

        Raises:
            ConfigError: fewer images are held out than there are classes.
        """
        count = affordable(oracle.budget, pool, self.asks)
        held = min(int(count * self.validation), max(0, count - 2))
        if self.validation:
            require_each_class(held, oracle.width, self.validation)
        asked, kept = np.split(select(self.selection, pool, count, ctx), [count - held])
        return asked, kept

    def transfer_set(self, oracle: Oracle, ids: Ids, seed: int) -> tuple[Ids, Tensor]:
        """Pool images to train on and their target answers ``(n, C)``; by default the API's answers."""
        return ids, oracle.ask(ids)
