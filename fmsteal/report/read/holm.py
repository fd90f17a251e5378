"""Holm's step-down correction: of many comparisons, which are more than chance."""

from __future__ import annotations

from collections.abc import Sequence

LEVEL = 0.05  # chance that any of a table's comparisons is called a difference where there is none


def adjust(chances: Sequence[float]) -> list[float]:
    """The p-values of m comparisons, adjusted for their number, each in its place.

    Holm (1979): in ascending order the k-th, from 0 on, is multiplied by m - k; none is smaller than one before it, or
    larger than 1. Those of at most `LEVEL` are differences, with at most that chance of any mistake among them.
    """
    adjusted, least = [0.0] * len(chances), 0.0
    for k, place in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        least = max(least, min((len(chances) - k) * chances[place], 1.0))
        adjusted[place] = least
    return adjusted
