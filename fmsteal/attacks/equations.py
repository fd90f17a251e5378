"""Soft answers as linear equations of a head on known features, and their ridge solution. Float64 throughout.

For a victim that is a linear head on features ``phi``, ``log p_k = w_k phi + b_k - log sum_j exp(w_j phi + b_j)``. Two
entries of one answer give a linear equation, since their last terms cancel (equation solving: Tramer et al., USENIX
Security 2016, section 4.1). Heads are found up to a term shared by all classes, which does not affect the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmsteal.training.axes import principal_axes

SMALLEST = torch.finfo(torch.float32).tiny  # smaller float32 numbers lose digits and finally become 0
NEGLIGIBLE = 1e-14  # relative to the largest eigenvalue: float64 cannot tell smaller ones from 0
CONVERGED = 1e-11  # relative to the gradient's initial norm
STEPS = 300


@dataclass(frozen=True)
class EquationHead:
    """A linear head, float64: ``weight`` ``(C, D)`` and ``bias`` ``(C,)``."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits ``(n, C)`` of features ``(n, D)``."""
        return features.double() @ self.weight.T + self.bias

    @classmethod
    def of(cls, layer: nn.Linear) -> EquationHead:
        """The head of a layer."""
        return cls(layer.weight.detach().double().cpu(), layer.bias.detach().double().cpu())

    def __add__(self, other: EquationHead) -> EquationHead:
        return EquationHead(self.weight + other.weight, self.bias + other.bias)

    def write(self, layer: nn.Linear) -> None:
        """Write it into a layer, with the mean over classes subtracted so that float32 keeps more digits."""
        with torch.no_grad():
            layer.weight.copy_(self.weight - self.weight.mean(0))
            layer.bias.copy_(self.bias - self.bias.mean())


@dataclass(frozen=True)
class Equations:
    """The equations that answers give, row by row.

    Attributes:
        logs: ``log p``, float64 ``(n, C)``; 0 where an entry carries no information.
        known: float64 ``(n, C)``: 0 where an entry carries no information, else 1.
    """

    logs: Tensor
    known: Tensor

    @classmethod
    def of(cls, answers: Tensor) -> Equations:
        """The equations in answers ``(n, C)``.

        An entry below the smallest normal float32 is left out, never clamped: only a bound of its log is known. A row
        with fewer than two entries gives no equation. An entry of 1 stays: its log is known as well as any other.
        """
        known = answers.double() >= SMALLEST
        known &= known.sum(1, keepdim=True) > 1
        return cls(torch.where(known, answers.double(), 1.0).log(), known.double())

    def __getitem__(self, rows: Tensor) -> Equations:
        """The equations of some rows."""
        return Equations(self.logs[rows], self.known[rows])

    def beside(self, logits: Tensor) -> Equations:
        """The equations for what logits ``(n, C)`` leave unexplained."""
        return Equations(self.logs - self.known * logits, self.known)

    @property
    def count(self) -> int:
        """The number of equations: one less than the known entries of each row."""
        return int((self.known.sum(1) - 1).clamp(min=0).sum())

    def residuals(self, logits: Tensor) -> Tensor:
        """The errors of logits ``(n, C)``, up to a constant per row, ``(n, C)``; 0 for unknown entries."""
        return self.centre(self.logs - logits)

    def centre(self, values: Tensor) -> Tensor:
        """Values ``(n, C)`` minus each row's mean over the known entries; 0 for unknown entries."""
        mean = (self.known * values).sum(1, keepdim=True) / self.known.sum(1, keepdim=True).clamp(min=1)
        return self.known * (values - mean)


class System:
    """The features of answered images, factorised once for all penalties, by their Gram matrix or their covariance.

    Attributes:
        rank: number of dimensions in which the features vary.
    """

    def __init__(self, features: Tensor) -> None:
        """Factorise features ``(n, D)``: the Gram matrix if n is smaller than D, else the covariance."""
        rows = features.double()
        self._mean = rows.mean(0)
        rows = rows - self._mean
        variances, self._axes = principal_axes(rows, NEGLIGIBLE)
        self._values = len(rows) * variances
        self._columns = torch.cat([rows @ self._axes, rows.new_ones(len(rows), 1)], dim=1)
        self.rank = len(self._values)

    def solve(self, equations: Equations, penalty: float) -> EquationHead:
        """The head with the least ``sum of squared residuals + penalty * e * |W|^2``; the bias is not penalised.

        Uses conjugate gradients (CGLS, Bjoerck 1996, section 7.4.1) in coordinates in which complete answers take one
        step. If entries are left out, the classes depend on each other, and it takes more.

        Args:
            equations: one row for each row of the features.
            penalty: at least 0, in units of ``e``, the largest eigenvalue of the features' scatter matrix.
        """
        largest = float(self._values[-1]) if self.rank else 0.0
        penalties = torch.cat([torch.full_like(self._values, penalty * largest), self._values.new_zeros(1)])
        sizes = torch.cat([self._values, self._values.new_full((1,), len(self._columns))])
        scale = (sizes + penalties).rsqrt()[:, None]
        pull = penalties.sqrt()[:, None] * scale

        found = self._columns.new_zeros(len(sizes), equations.logs.shape[1])
        off, pulled = equations.centre(equations.logs), torch.zeros_like(found)
        way = gradient = scale * (self._columns.T @ off)
        size = first = float(gradient.square().sum())
        for _ in range(STEPS):
            if size <= CONVERGED**2 * first:
                break
            moved, drawn = equations.centre(self._columns @ (scale * way)), pull * way
            step = size / float(moved.square().sum() + drawn.square().sum())
            found, off, pulled = found + step * way, off - step * moved, pulled - step * drawn
            gradient = scale * (self._columns.T @ off) + pull * pulled
            before, size = size, float(gradient.square().sum())
            way = gradient + size / before * way
        found = scale * found
        weight = (self._axes @ found[:-1]).T
        return EquationHead(weight, found[-1] - weight @ self._mean)
