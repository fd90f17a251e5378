"""Which pool images to ask about."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fmsteal.data.images import Ids


class Selection(Protocol):
    """Chooses images before any answer is known."""

    def __call__(self, pool: int, count: int, seed: int) -> Ids:
        """``count`` distinct ids below ``pool``."""
        ...


def random(pool: int, count: int, seed: int) -> Ids:
    """Uniformly at random without replacement; nested: the choice of 1,000 begins with the choice of 100."""
    return np.random.default_rng((seed, 0x5E1EC7)).permutation(pool)[:count].astype(np.int64)
