"""Mutual information of two embeddings of the same images, by nearest neighbours (Kraskov et al., Phys. Rev. E 2004).

Algorithm 1, with the maximum norm: e_i is the distance of image i to its k-th neighbour in both embeddings together,
and n_x, n_y are the numbers of images strictly nearer than e_i in each embedding alone; the estimate is ``psi(k) +
psi(n) - <psi(n_x + 1) + psi(n_y + 1)>`` nats. In many dimensions all points are about equally far apart and the
estimate is far too low: it can rank, but is not a true amount.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.special import digamma

Floats = npt.NDArray[np.float64]


def estimate_information(x: Floats, y: Floats, k: int) -> float:
    """Mutual information in nats of rows ``x (n, p)`` and ``y (n, q)`` of the same n images; k < n."""
    return _of_distances(distances(x), distances(y), k)


def estimate_excess(x: Floats, y: Floats, k: int, permutations: int, seed: int) -> float:
    """The same minus its mean over random permutations of y, which is the chance level."""
    far_x, far_y, random = distances(x), distances(y), np.random.default_rng(seed)
    orders = [random.permutation(len(x)) for _ in range(permutations)]
    return _of_distances(far_x, far_y, k) - float(
        np.mean([_of_distances(far_x, far_y[np.ix_(order, order)], k) for order in orders])
    )


def standardise(rows: Floats, dimensions: int | None) -> Floats:
    """Columns of mean 0 and standard deviation 1; only the first principal components if ``dimensions`` is given."""
    centred = rows - rows.mean(0)
    if dimensions is not None and dimensions < centred.shape[1]:
        centred = centred @ np.linalg.svd(centred, full_matrices=False)[2][:dimensions].T
    return np.asarray(centred / np.maximum(centred.std(0), 1e-12))


def distances(rows: Floats) -> Floats:
    """Distances between all rows in the maximum norm, ``(n, n)``; infinite from a row to itself."""
    far = cdist(rows, rows, "chebyshev")
    np.fill_diagonal(far, np.inf)
    return np.asarray(far)


def _of_distances(x: Floats, y: Floats, k: int) -> float:
    reach = np.partition(np.maximum(x, y), k - 1, axis=1)[:, k - 1 : k]
    nearer = [digamma((far < reach).sum(1) + 1) for far in (x, y)]
    return float(digamma(k) + digamma(len(x)) - (nearer[0] + nearer[1]).mean())
