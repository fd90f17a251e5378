"""Greedy k-center (Gonzalez 1985; for active learning Sener & Savarese, ICLR 2018): rows that cover the others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids

HELD = 1 << 21  # distances held at a time while the first centres are gone through (16 MB)


def pick_farthest_first(rows: Tensor, centres: Tensor, count: int) -> Ids:
    """Pick ``count`` rows one by one, each the farthest from its nearest centre; a pick is a centre from then on.

    Only each row's distance to its nearest centre is kept, so a pick costs one pass over the rows where the published
    code compares all rows with all centres again.

    Args:
        rows: what can be picked, ``(n, D)``.
        centres: what is covered already, ``(m, D)``; without any, the first pick is row 0.
        count: how many to pick, at most n.

    Returns:
        Their places in ``rows``, in the order of the picks, all distinct; of rows equally far away the first.
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
        nearest[pick] = -1.0  # never again, even where all that is left lies on a centre
        picks[place] = pick
    return picks


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    # By differences: |a|^2 - 2ab + |b|^2 cancels for rows close together, as a sure thief's are, and picks others.
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist")
