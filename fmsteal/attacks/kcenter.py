"""Greedy k-center (Gonzalez 1985; Sener & Savarese, ICLR 2018, for active learning): rows that cover the others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids

HELD = 1 << 21  # distances in memory at a time while the given centres are processed (16 MB)


def pick_farthest_first(rows: Tensor, centres: Tensor, count: int) -> Ids:
    """Pick ``count`` rows one by one, each the farthest from its nearest centre; a picked row becomes a centre.

    Only each row's distance to its nearest centre is kept, so a pick costs one pass over the rows; the published code
    compares all rows with all centres again.

    Args:
        rows: the rows to pick from, ``(n, D)``.
        centres: the initial centres, ``(m, D)``; without any, the first pick is row 0.
        count: number of rows to pick, at most n.

    Returns:
        The distinct indices of the picks in ``rows``, in the order of picking; ties go to the first.
    """
    if count > len(rows):
        raise ValueError(f"{count} rows cannot be picked from {len(rows)}")
    rows, centres = rows.double(), centres.double()
    nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    size = max(1, HELD // max(1, len(rows)))
    for start in range(0, len(centres), size):
        torch.minimum(nearest, _distances(rows, centres[start : start + size]).amin(dim=1), out=nearest)
    picks = np.empty(count, dtype=np.int64)
    for place in range(count):
        pick = int(nearest.argmax())
        torch.minimum(nearest, _distances(rows, rows[pick : pick + 1])[:, 0], out=nearest)
        nearest[pick] = -1.0  # never picked again, even if all remaining rows coincide with a centre
        picks[place] = pick
    return picks


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    # By differences: |a|^2 - 2ab + |b|^2 cancels for rows close together, as a confident thief's are, and picks others.
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
