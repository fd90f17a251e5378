"""BESA (Ren et al., 2025): encoder stealing on recovered embeddings, by a linear map or a trained thief.

How they are recovered, and what of it is ours, is in `fmsteal.attacks.perturbation_recovery`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.direct import Direct
from fmsteal.attacks.encoders import EmbeddingAttack
from fmsteal.attacks.linear_map import LinearMap
from fmsteal.attacks.perturbation_recovery import PerturbationRecovery
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True, kw_only=True)
class Recovering(EmbeddingAttack):
    """What both have in common: a recovery of the answers before anything is learnt from them.

    Attributes:
        recovery: how the API's defense is found and undone; a thief from scratch needs a public ``trunk`` there.
    """

    recovery: PerturbationRecovery

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse also a budget for too few images to tell defenses apart."""
        super().check(budget, pool)
        self.recovery.require_images(self.images(budget, pool))

    def ask_and_recover(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
        """Ask about each image once; the recovered embeddings, ``(n, D)``.

        Raises:
            ConfigError: a candidate changes the width of answers, or there is no public trunk; before any query.
        """
        copies = self.recovery.prepare(pool, oracle.width, ctx)
        ctx.public_features(pool, ids[:1], self.recovery.trunk)
        return self.recovery.recover(oracle.ask(ids), ids, pool, copies, ctx)


@dataclass(frozen=True, kw_only=True)
class Besa(Recovering, LinearMap):
    """As `LinearMap`, on recovered answers."""

    def ask(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
        """The recovered embeddings, ``(n, D)``."""
        return self.ask_and_recover(oracle, pool, ids, ctx)


@dataclass(frozen=True, kw_only=True)
class BesaDirect(Recovering, Direct):
    """As `Direct`, on recovered answers."""

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """The images, and the recovered embedding of each."""
        return self.loader(pool, ids, self.ask_and_recover(oracle, pool, ids, ctx), ctx)
