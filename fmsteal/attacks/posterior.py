"""The mean of a table's clean rows whose defended rows are near an answer: ModelGuard's partial Bayes recovery."""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 2**22  # distances in memory at a time
ROUNDING = 1e-9  # distances that are equal but for the order of sums are equal


def find_posterior_means(answers: Tensor, clean: Tensor, defended: Tensor, tolerance: float) -> Tensor:
    """For each answer the mean of ``clean`` over the rows whose ``defended`` row is near it.

    Near is ``|defended - answer|_1 <= max(tolerance, min)``, with min the distance of the nearest row, among defended
    rows of the answer's top class; among all rows if the table has none of it.

    Args:
        answers: ``(n, K)``.
        clean, defended: the table, ``(rows, K)`` each.
        tolerance: an L1 distance.

    Returns:
        The means, float32 ``(n, K)``.
    """
    found = torch.empty(answers.shape, dtype=torch.float64)
    tops, of_rows = answers.argmax(1), defended.argmax(1)
    for top in tops.unique():
        same = of_rows == top
        rows = same if bool(same.any()) else torch.ones_like(same)
        p, y = clean[rows].double(), defended[rows].double()
        for some in (tops == top).nonzero().flatten().split(max(1, AT_ONCE // len(y))):
            apart = torch.cdist(answers[some].double(), y, p=1)
            limit = apart.amin(1, keepdim=True).clamp(min=tolerance) + ROUNDING
            near = (apart <= limit).double()
            found[some] = near @ p / near.sum(1, keepdim=True)
    return found.float()
