"""Random subsets in which every class has its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def order_stratified(labels: Ints, seed: int) -> Ints:
    """All ids in a random order of which every prefix is stratified.

    Each next image comes from the class with the smallest share taken so far; ties are broken at random. So with k
    classes, the first n images include one of each class as soon as n >= k, and between ``t m`` and ``t m + 1`` of a
    class of m images, with the same t for all classes.

    Args:
        labels: int64 ``(N,)``.
        seed: seed of the order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    kinds, sizes = np.unique(labels, return_counts=True)
    share = np.empty(len(labels))
    for kind, size in zip(kinds, sizes, strict=True):
        share[order[labels[order] == kind]] = np.arange(size) / size  # share of the class taken before this image
    return order[np.argsort(share[order], kind="stable")]
