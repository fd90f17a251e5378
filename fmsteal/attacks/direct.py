"""Direct extraction (Dziedzic et al., ICML 2022): the thief's embeddings are compared with the API's answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from fmsteal.attacks.encoders import EncoderAttack
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Budget
from fmsteal.training.classifier import Loss, SupervisedModule
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True, kw_only=True)
class Direct(EncoderAttack):
    """Each image is asked about once, and shown to the thief as it is.

    Attributes:
        loss: compares the thief's and the victim's embeddings, both ``(n, D)``: see `fmsteal.attacks.embedding_losses`.
    """

    augments: ClassVar[bool] = True

    loss: Loss

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse also batches with fewer images than the loss needs: some losses compare images with each other."""
        super().check(budget, pool)
        loss = self.loss.func if isinstance(self.loss, partial) else self.loss
        self.require_batches(self.images(budget, pool), getattr(loss, "fewest", 1), budget)

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains with the loss."""
        return SupervisedModule(net, self.loss, recipe, seed)
