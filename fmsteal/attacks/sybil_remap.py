"""An adaptive attacker with two accounts: a map fitted on shared images takes one account's answers to the other's.

It works against defenses that treat each account separately: one that answers worse the more an account has seen (each
sees about half of the images), or one that transforms each account's embeddings (Dubinski et al., NeurIPS 2023, who
test such a remapping: a map between two accounts' representations, learnt on images that both asked about).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.direct import Direct
from fmsteal.attacks.linear_map import LinearMap
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True, kw_only=True)
class TwoAccounts:
    """Asks as two accounts, and maps the second's answers to the first's.

    An image that both accounts ask about costs two questions: N questions with S shared images are for N - S images.

    Attributes:
        shared: share of the images that both accounts ask about, to fit the map on.
        map: ``affine`` (ridge regression) or ``mlp`` (one hidden layer).
        ridge: penalty of the affine map.
    """

    shared: float = 0.2
    map: Literal["affine", "mlp"] = "affine"
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.shared < 1 or self.ridge < 0:
            raise ConfigError(
                f"attack.shared must be between 0 and 1 and attack.ridge not negative: {self.shared}, {self.ridge}."
            )

    def images(self, budget: Budget, pool: Images) -> int:
        """The number of images that the budget is enough for, with shared images counted once.

        Raises:
            ConfigError: the budget is for fewer than two shared images, or for more images than the pool holds.
        """
        count = budget.queries - self._shared(budget)
        if self._shared(budget) < 2:
            raise ConfigError(
                f"With a budget of {budget.queries} queries and attack.shared={self.shared} the two accounts share "
                f"{self._shared(budget)} images: too few to fit a map on. Choose a larger budget=... or attack.shared."
            )
        if count > len(pool):
            raise ConfigError(
                f"A budget of {budget.queries} queries is for {count} images, {self._shared(budget)} of them asked "
                f"about by both accounts, but the query set holds {len(pool)} images. Choose a smaller budget "
                "(budget=...) or a larger query set (query=..., query.count=N)."
            )
        return count

    def ask_as_two(self, oracle: Oracle, ids: Ids, seed: int) -> Tensor:
        """The answers about the images of both accounts, all mapped to the first account's, ``(n, D)``."""
        shared, rest = np.split(ids, [self._shared(oracle.budget)])
        own, other = np.array_split(rest, 2)
        first = oracle.ask(np.concatenate([shared, own]), client=0)
        second = oracle.ask(np.concatenate([shared, other]), client=1)
        both = slice(0, len(shared))
        return torch.cat([first, self.remap(second[both], first[both], second[len(shared) :], seed)])

    def remap(self, source: Tensor, target: Tensor, answers: Tensor, seed: int) -> Tensor:
        """``answers (n, D)`` mapped by a fit from ``source`` to ``target``, both ``(shared, D)``."""
        if not len(answers):
            return answers
        if self.map == "affine":
            fitted = Ridge(alpha=self.ridge)
        else:
            fitted = MLPRegressor(max_iter=500, random_state=derive_seed("sybil", seed))
        fitted.fit(source.numpy(), target.numpy())
        return torch.from_numpy(fitted.predict(answers.numpy())).float()

    def _shared(self, budget: Budget) -> int:
        return round(budget.queries * self.shared / (1 + self.shared))


@dataclass(frozen=True, kw_only=True)
class SybilRemap(TwoAccounts, Direct):
    """As `Direct`, on the answers of two accounts."""

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """The images of both accounts, with all answers mapped to the first account's."""
        return self.loader(pool, ids, self.ask_as_two(oracle, ids, ctx.seed), ctx)


@dataclass(frozen=True, kw_only=True)
class SybilRemapMap(TwoAccounts, LinearMap):
    """As `LinearMap`, on the answers of two accounts."""

    def __post_init__(self) -> None:
        TwoAccounts.__post_init__(self)
        LinearMap.__post_init__(self)

    def ask(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
        """The answers of both accounts, all mapped to the first account's, ``(n, D)``."""
        return self.ask_as_two(oracle, ids, ctx.seed)
