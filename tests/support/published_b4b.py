"""B4B's published parts as plain loops (Dubinski et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def draw_planes(width: int, projections: int, bits: int, seed: int) -> list[Floats]:
    """The Gaussian projections, one matrix ``(width, bits)`` for each cut."""
    whole = np.random.default_rng(seed).standard_normal((width, projections * bits))
    return list(whole.reshape(width, projections, bits).transpose(1, 0, 2))


def find_buckets(rows: Floats, plane: Floats) -> set[str]:
    """The buckets that rows lie in: a tuple of signs, spelt out, for each of them."""
    signs = [tuple(bits) for bits in (rows @ plane > 0).astype(int)]
    by_bucket = defaultdict(list)
    for number, bucket in enumerate(signs):
        by_bucket[bucket].append(number)
    return {str(bucket) for bucket in by_bucket}


class Coverage:
    """The coverage of one client, in per cent: a set of buckets for each cut."""

    def __init__(self, planes: list[Floats]) -> None:
        self.planes = planes
        self.sets: list[set[str]] = [set() for _ in planes]

    def see(self, rows: Floats) -> float:
        for seen, plane in zip(self.sets, self.planes, strict=True):
            seen.update(find_buckets(rows, plane))
        buckets = 2 ** self.planes[0].shape[1]
        return float(np.mean([100 * len(seen) / buckets for seen in self.sets]))


def deviation(coverage: float, alpha: float, beta: float, lam: float) -> float:
    return max(lam * (math.exp(math.log(alpha / lam) * coverage / beta) - 1), 0.0)
