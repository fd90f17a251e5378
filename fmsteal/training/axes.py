"""The axes along which rows vary, for least squares, ridge regression and Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_axes(rows: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The variances ``(r,)`` of rows ``(n, D)`` along their principal axes, ascending, and the axes ``(D, r)``.

    They are computed from the Gram matrix if that is smaller than the covariance.

    Args:
        rows: the rows, centred.
        least: axes whose variance is at most this share of the largest are left out as rounding errors.
    """
    count, width = rows.shape
    is_tall = count >= width
    variances, vectors = torch.linalg.eigh((rows.T @ rows if is_tall else rows @ rows.T) / count)
    kept = variances > least * variances[-1].clamp_min(1e-300)
    variances, vectors = variances[kept], vectors[:, kept]
    return variances, vectors if is_tall else rows.T @ vectors / (count * variances).sqrt()
