"""Random subsets that hold every class in its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def order_stratified(labels: Ints, seed: int) -> Ints:
    """All ids in a random order each beginning of which is stratified.

    Each next image is of a class of which the smallest share was taken so far; of several such classes, chance decides.
    So the first n of k classes hold one image of each as soon as n >= k, and of a class of m images between ``t m`` and
    ``t m + 1`` with one t for all classes. Fewer are among more.

    Args:
        labels: int64 ``(N,)``.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    kinds, sizes = np.unique(labels, return_counts=True)
    share = np.empty(len(labels))
    for kind, size in zip(kinds, sizes, strict=True):
        share[order[labels[order] == kind]] = np.arange(size) / size  # what is taken of the class before this image
    return order[np.argsort(share[order], kind="stable")]
