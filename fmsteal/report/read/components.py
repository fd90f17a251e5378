"""Variance components of a fully crossed grid: how much of a figure's variance each factor causes."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np
import numpy.typing as npt

Factors = tuple[int, ...]  # axes of the grid, ascending


def estimate_components(values: npt.NDArray[np.float64]) -> dict[Factors, float]:
    """Estimate the variances of a crossed random-effects model from one figure for each combination of levels.

    y = mu + sum over non-empty sets A of factors of e_A, independent, with variance s_A: the factors themselves, their
    interactions, and that of all, which cannot be separated from chance. Method of moments (analysis of variance,
    Henderson's first): the mean square of A has the expectation sum over B >= A of s_B times the levels of all factors
    not in B.

    Args:
        values: the figures ``(n_1, ..., n_k)``, with two levels or more of each factor.

    Returns:
        The estimate for each set, smallest sets first; unbiased, so it may be negative.

    Raises:
        ValueError: a factor has fewer than two levels, or a figure is missing.
    """
    if not values.ndim or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"a grid of {values.shape} levels with no figure missing is needed, two of each factor")
    every = [found for size in range(1, values.ndim + 1) for found in combinations(range(values.ndim), size)]
    spare = {a: prod(values.shape) // prod(values.shape[x] for x in a) for a in every}
    found: dict[Factors, float] = {}
    for a in reversed(every):
        square = spare[a] * _squared_effect(values, a) / prod(values.shape[x] - 1 for x in a)
        found[a] = (square - sum(found[b] * spare[b] for b in found if set(b) > set(a))) / spare[a]
    return {a: found[a] for a in every}


def _squared_effect(values: npt.NDArray[np.float64], a: Factors) -> float:
    """Sum over the levels of the factors in ``a`` of their squared interaction, with the effects of subsets removed."""
    effect = np.zeros(())
    for size in range(len(a) + 1):
        for b in combinations(a, size):
            others = tuple(x for x in range(values.ndim) if x not in b)
            effect = effect + (-1) ** (len(a) - len(b)) * values.mean(others, keepdims=True)
    return float((effect**2).sum())
