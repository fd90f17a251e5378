"""The strongest simple thief of an encoder: a linear map from a public trunk's features to the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.encoders import EmbeddingAttack, require_varied
from fmsteal.attacks.ridge import PENALTIES, fit_ridge
from fmsteal.attacks.selection import select
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids, Images
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True, kw_only=True)
class LinearMap(EmbeddingAttack):
    """Asks about each image once, then solves for the map: ridge regression in closed form, no training.

    The thief is the public trunk as it was published, followed by the map. The share of the embeddings that the map
    leaves unexplained on held-out images is logged as ``attack/residual``.

    Attributes:
        validation: share of the answers held out to choose the penalty; the map is then fitted to all answers.
        penalties: ridge penalties to choose from, see `fit_ridge`.
    """

    validation: float = 0.2
    penalties: Sequence[float] = PENALTIES

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ConfigError(f"attack.validation must be above 0 and below 1, not {self.validation}.")
        if not self.penalties or min(self.penalties) <= 0:
            raise ConfigError(f"attack.penalties must be numbers above 0, not {list(self.penalties)}.")

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget for fewer than three images, or for more than the pool holds."""
        if self.images(budget, pool) < 3:
            raise ConfigError(
                f"This attack fits a map to two answers or more and holds one out, but the budget is {budget.queries} "
                "queries. Choose a larger one: budget=..., or budget.queries=N."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, then solve; returns the encoder: raw images in, embeddings ``(n, D)`` as wide as the answers out."""
        encoder = ctx.encoder(oracle.width, frozen=True)  # refuses a thief that does not fit, before any query is paid
        ids = select(self.selection, pool, self.images(oracle.budget, pool), ctx)
        answers = self.ask(oracle, pool, ids, ctx)
        require_varied(answers)
        held = np.random.default_rng(derive_seed("linear-map", ctx.seed)).permutation(len(ids))
        held_out = torch.from_numpy(held < min(max(1, round(len(ids) * self.validation)), len(ids) - 2))
        found = fit_ridge(ctx.public_features(pool, ids), answers, held_out, self.penalties)
        ctx.log({"residual": found.residual, "penalty": found.penalty}, len(ids))
        assert isinstance(encoder.projector, nn.Linear)
        with torch.no_grad():
            encoder.projector.weight.copy_(found.weight)
            encoder.projector.bias.copy_(found.bias)
        return encoder.cpu().eval()

    def ask(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
        """The embeddings ``(n, D)`` that the map is fitted to; by default the API's answers, each image asked once."""
        return oracle.ask(ids)
