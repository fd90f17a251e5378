"""A baseline for all attacks on encoders that needs no theft at all: a public trunk used as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fmsteal.attacks.base import AttackContext, require_no_budget
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True)
class PublicEncoder:
    """Asks nothing and trains nothing: the thief's trunk, as it was published, is the stolen encoder.

    It is as wide as its own features. These do not correspond to the target's, so no cosine and no distance is
    measured, even at equal width. The query set is not used.
    """

    answers: ClassVar[Answers] = "embeddings"

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget: it would suggest that questions were asked."""
        require_no_budget(budget)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """The encoder: raw images in, features ``(n, d)`` of its own width out."""
        encoder = ctx.encoder(frozen=True)
        encoder.aligned = False
        return encoder.cpu().eval()
