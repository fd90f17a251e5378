"""Made-up clean answers: what an attacker thinks that the victim would say, before it looks at what the API said."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids

AT_ONCE = 2**22  # random numbers in memory at a time
TINY = float(np.finfo(np.float64).tiny)  # a row of which all numbers underflow is uniform


def draw_rows(centres: Tensor, count: int, concentration: float, floor: float, seed: int) -> tuple[Tensor, Ids]:
    """Dirichlet rows around centres: parameters ``K * concentration * centre + floor``, as many for each centre.

    Args:
        centres: rows ``(m, K)`` that need not sum to 1; a row of zeros counts as uniform.
        count: number of rows; those of a centre stand together.
        concentration: the larger, the nearer a row is to its centre (ModelGuard's code: 8).
        floor: what is added to each parameter, above 0: mass for classes that a centre gives none.
        seed: of the draw.

    Returns:
        The rows, float32 ``(count, K)``, and the number of each one's centre ``(count,)``.
    """
    total = centres.double().clamp(min=0).sum(1, keepdim=True)
    means = torch.where(total > 0, centres.double().clamp(min=0) / total, 1 / centres.shape[1]).numpy()
    of = np.arange(count) * len(centres) // count
    random, classes = np.random.default_rng(seed), centres.shape[1]
    parts = []
    for some in np.array_split(of, max(1, count * classes // AT_ONCE)):
        drawn = random.standard_gamma(classes * concentration * means[some] + floor) + TINY
        parts.append(torch.from_numpy(drawn / drawn.sum(1, keepdims=True)).float())
    return torch.cat(parts), of
