"""Mutual information of two embeddings of the same images, by nearest neighbours (Kraskov et al., Phys. Rev. E 2004).

Algorithm 1: with the maximum norm, e_i the distance of image i to its k-th neighbour in both embeddings together, and
n_x, n_y how many others are strictly nearer in each alone, ``psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>`` nats.
In many dimensions all points are about equally far and the estimate is far too low: it ranks, but is no amount.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.special import digamma

Floats = npt.NDArray[np.float64]


def estimate_information(x: Floats, y: Floats, k: int) -> float:
    """Nats that rows ``x (n, p)`` and ``y (n, q)`` of the same n images tell of each other; k < n."""
    return _of_distances(distances(x), distances(y), k)


def estimate_excess(x: Floats, y: Floats, k: int, permutations: int, seed: int) -> float:
    """The same less its mean over orders of y that have nothing to do with x: what chance gives."""
    far_x, far_y, random = distances(x), distances(y), np.random.default_rng(seed)
    orders = [random.permutation(len(x)) for _ in range(permutations)]
    return _of_distances(far_x, far_y, k) - float(
        np.mean([_of_distances(far_x, far_y[np.ix_(order, order)], k) for order in orders])
    )


def standardise(rows: Floats, dimensions: int | None) -> Floats:
    """Columns of mean 0 and deviation 1, of the first principal components where ``dimensions`` are given."""
    centred = rows - rows.mean(0)
    if dimensions is not None and dimensions < centred.shape[1]:
        centred = centred @ np.linalg.svd(centred, full_matrices=False)[2][:dimensions].T
    return np.asarray(centred / np.maximum(centred.std(0), 1e-12))


def distances(rows: Floats) -> Floats:
    """Between all rows by the maximum norm, ``(n, n)``; infinite from a row to itself."""
    far = cdist(rows, rows, "chebyshev")
    np.fill_diagonal(far, np.inf)
    return np.asarray(far)


def _of_distances(x: Floats, y: Floats, k: int) -> float:
    reach = np.partition(np.maximum(x, y), k - 1, axis=1)[:, k - 1 : k]
    nearer = [digamma((far < reach).sum(1) + 1) for far in (x, y)]
    return float(digamma(k) + digamma(len(x)) - (nearer[0] + nearer[1]).mean())
