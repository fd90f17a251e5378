"""Variance components of a fully crossed grid: how much of a figure's scatter each factor makes."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np
import numpy.typing as npt

Factors = tuple[int, ...]  # axes of the grid, ascending


def estimate_components(values: npt.NDArray[np.float64]) -> dict[Factors, float]:
    """Estimate the variances of a crossed random-effects model from one figure for each combination of levels.

    y = mu + sum over non-empty sets A of factors of e_A, independent, of variance s_A: the factors themselves, their
    interactions, and that of all, which is not told from chance. Method of moments (analysis of variance, Henderson's
    first): the mean square of A has the expectation sum over B >= A of s_B times the levels of all factors not in B.

    Args:
        values: the figures ``(n_1, ..., n_k)``, two levels or more of each factor.

    Returns:
        The estimate of each set, smallest sets first; unbiased, so that it may be negative.

    Raises:
        ValueError: a factor has fewer than two levels, or a figure is missing.
    """
    if not values.ndim or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"a grid of {values.shape} levels with no figure missing is needed, two of each factor")
    axes = range(values.ndim)
    every = [found for size in range(values.ndim + 1) for found in combinations(axes, size)]
    means = {a: values.mean(tuple(x for x in axes if x not in a), keepdims=True) for a in every}
    spare = {a: prod(values.shape[x] for x in axes if x not in a) for a in every}
    found: dict[Factors, float] = {}
    for a in reversed(every[1:]):
        inner = [b for b in every if set(b) <= set(a)]
        effect = sum((-1) ** (len(a) - len(b)) * means[b] for b in inner)
        square = spare[a] * float((np.asarray(effect) ** 2).sum()) / prod(values.shape[x] - 1 for x in a)
        found[a] = (square - sum(found[b] * spare[b] for b in found if set(b) > set(a))) / spare[a]
    return {a: found[a] for a in every[1:]}
