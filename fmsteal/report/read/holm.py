"""Holm's step-down correction: which of many comparisons are more than chance."""

from __future__ import annotations

from collections.abc import Sequence

LEVEL = 0.05  # chance that any of a table's comparisons is wrongly called a difference


def adjust(chances: Sequence[float]) -> list[float]:
    """The p-values of m comparisons, adjusted for their number, in the given order.

    Holm (1979): in ascending order, the k-th, counted from 0, is multiplied by m - k; none may be smaller than the one
    before it, or larger than 1. Those of at most `LEVEL` are differences; the chance of any mistake among them is at
    most `LEVEL`.
    """
    adjusted, least = [0.0] * len(chances), 0.0
    for k, place in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        least = max(least, min((len(chances) - k) * chances[place], 1.0))
        adjusted[place] = least
    return adjusted
