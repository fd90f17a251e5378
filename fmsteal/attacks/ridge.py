"""Ridge regression in closed form: the best linear map from features to answers, its penalty chosen on held-out rows.

One eigendecomposition, of the features' covariance or their Gram matrix, whichever is smaller, serves all penalties:
with ``X = U S V'`` a prediction is ``X_h V (S^2 + n p)^-1 V' X' Y = X_h X' U (S^2 + n p)^-1 U' Y``, and only the
diagonal depends on p (Hastie et al., The Elements of Statistical Learning, eq. 3.47 and ch. 18.3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fmsteal.training.axes import principal_axes

NEGLIGIBLE = 1e-14  # relative to the largest eigenvalue: float64 cannot tell smaller ones from 0
PENALTIES = tuple(10.0**half for half in (exponent / 2 for exponent in range(-14, 5)))  # 1e-7 to 1e2


class Ridge(NamedTuple):
    """A linear map ``x -> x W' + b``.

    Attributes:
        weight: float64 ``(K, D)``, as in `torch.nn.Linear`.
        bias: float64 ``(K,)``.
        residual: squared error on the held-out rows, before the fit to all rows, relative to that of predicting the
            mean of the other rows; 0 is a perfect map, 1 is no better than a constant.
        penalty: the penalty that was chosen.
    """

    weight: Tensor
    bias: Tensor
    residual: float
    penalty: float


def fit_ridge(features: Tensor, targets: Tensor, held_out: Tensor, penalties: Sequence[float] = PENALTIES) -> Ridge:
    """Minimise ``mean_i ||y_i - W x_i - b||^2 + p v ||W||^2`` over W and b, with v the mean variance of a feature.

    The penalty p is the one whose map, fitted to the other rows, has the smallest squared error on the held-out rows;
    ties go to the largest. The map returned is fitted to all rows. So defined, a penalty means the same for any number
    of rows and any unit of the features.

    Args:
        features: ``(n, D)``.
        targets: ``(n, K)``.
        held_out: the rows that choose the penalty, bool ``(n,)``.
        penalties: penalties to choose from, all above 0.

    Raises:
        ValueError: no row is held out, all rows are held out, or a penalty is not above 0.
    """
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties must be above 0, not {list(penalties)}")
    if not held_out.any() or held_out.all():
        raise ValueError(f"{int(held_out.sum())} of {len(held_out)} rows are held out: some must be, and some not")
    x, y = features.double(), targets.double()
    penalty, residual = _choose(x[~held_out], y[~held_out], x[held_out], y[held_out], sorted(penalties, reverse=True))
    weight, bias = _fit(x, y, penalty)
    return Ridge(weight, bias, residual, penalty)


def _choose(x: Tensor, y: Tensor, seen: Tensor, due: Tensor, penalties: Sequence[float]) -> tuple[float, float]:
    """The penalty whose map from ``x`` to ``y`` has the least error on ``seen``, and that error: see `Ridge`."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y, seen, due = x - x_mean, y - y_mean, seen - x_mean, due - y_mean
    variances, axes = principal_axes(x, NEGLIGIBLE)
    values, left, right, unit = len(x) * variances, seen @ axes, (x @ axes).T @ y, _unit(x)
    total = due.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    errors = []
    for penalty in penalties:
        predicted = left @ (right / (values + penalty * unit)[:, None])
        errors.append(float((due - predicted).square().sum() / total))
    best = min(range(len(errors)), key=errors.__getitem__)
    return penalties[best], errors[best]


def _fit(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight ``(K, D)`` and bias ``(K,)`` of the map fitted to all rows."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    rows = len(x) <= x.shape[1]
    gram = x @ x.T if rows else x.T @ x
    gram.diagonal().add_(penalty * _unit(x))
    factor = torch.linalg.cholesky(gram)
    solved = torch.cholesky_solve(y if rows else x.T @ y, factor)
    weight = (x.T @ solved if rows else solved).T.contiguous()
    return weight, y_mean - weight @ x_mean


def _unit(x: Tensor) -> float:
    """``n v`` of centred rows, which a penalty of 1 adds to each eigenvalue; 1 if no feature varies."""
    return float(x.square().sum()) / x.shape[1] or 1.0
