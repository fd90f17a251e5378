"""Newton's method for a linear head whose loss is convex: see `fmsteal.training.convex` for what is minimised.

Newton's steps are found by preconditioned conjugate gradients. Values, gradients and the line search are in
float64, the conjugate gradients in float32: their errors are corrected by the next step. The features are rotated into
the axes of their covariance (`Rotated`), found once for all penalties, from the Gram matrix if there are fewer rows
than features. The preconditioner is the covariance times the mean Hessian of the logits, inverted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from fmsteal.base.errors import FmstealError
from fmsteal.training.axes import principal_axes
from fmsteal.training.classifier import Loss

#: Axes whose variance is a smaller share of the largest are left out as rounding errors.
RANK = 1e-10
SMALLEST = 1e-10  # norm of a gradient at which a fit has converged in any case
STEPS, PRODUCTS, HALVINGS = 60, 1000, 40  # at most: Newton steps, products in each, halvings in a line search
INEXACT = 0.2  # share of the error that a Newton step may leave
MOST = 2**24  # numbers in the rows' Hessians above which a softmax's Hessians are used instead


@dataclass(frozen=True)
class FittedHead:
    """Weights ``(D, C)`` and bias ``(C,)`` for features that are centred and scaled, float64."""

    weight: Tensor
    bias: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of ``(n, D)``."""
        return inputs @ self.weight + self.bias


class Rotated:
    """Rows in the axes of their covariance. The unknowns are ``t (r + 1, C)``: a weight for each axis, and the bias.

    Axes along which the rows hardly vary are left out, so r <= D of them remain, fewer than rows.
    """

    def __init__(self, inputs: Tensor) -> None:
        """``inputs``: centred, ``(n, D)``."""
        count = len(inputs)
        variances, self.axes = principal_axes(inputs, RANK)
        self.variances = variances.float()
        ones = torch.ones(count, 1, dtype=inputs.dtype, device=inputs.device)
        rows = torch.cat([inputs @ self.axes, ones], dim=1)
        self.rows = {torch.float64: rows, torch.float32: rows.float()}

    def part(self, mask: Tensor) -> Rotated:
        """Some of the rows, by a mask ``(n,)``, in the same axes."""
        other = copy(self)
        other.rows = {kind: rows[mask] for kind, rows in self.rows.items()}
        return other

    def start(self, head: FittedHead | None, classes: int) -> Tensor:
        """The unknowns of a head, or zeros."""
        if head is None:
            return self.axes.new_zeros(self.axes.shape[1] + 1, classes)
        return torch.cat([self.axes.T @ head.weight, head.bias[None]])

    def head(self, t: Tensor) -> FittedHead:
        """The head with these unknowns."""
        return FittedHead(self.axes @ t[:-1], t[-1])

    def logits(self, t: Tensor) -> Tensor:
        """Logits ``(n, C)``, in the precision of ``t``."""
        return (t.T.contiguous() @ self.rows[t.dtype].T).T  # in this order it takes half the time

    def adjoint(self, slopes: Tensor) -> Tensor:
        """The gradient in t of a function of the logits, from its gradient ``(n, C)`` in the logits."""
        return (slopes.T @ self.rows[slopes.dtype]).T

    def penalised(self, t: Tensor) -> Tensor:
        """The gradient of ``||W||^2 / 2``: t without the bias."""
        return torch.cat([t[:-1], torch.zeros_like(t[-1:])])

    def preconditioner(self, hessians: Hessians, l2: float) -> Callable[[Tensor], Tensor]:
        """``(covariance x mean Hessian + l2)^-1``; for the bias, the mean Hessian's inverse alone. In float32."""
        values, classes = torch.linalg.eigh(hessians.mean())
        values = values.clamp_min(0)
        floor = max(1e-4 * float(values[-1]), 1e-20)
        diagonal = torch.cat([self.variances[:, None] * values + l2, values.clamp_min(floor)[None]])
        return lambda t: ((t @ classes) / diagonal) @ classes.T


class Hessians:
    """Second derivatives of the loss in each row's logits, at one point; float32."""

    def __init__(self, loss: Loss, logits: Tensor, targets: Tensor) -> None:
        self._at = logits.float().requires_grad_()
        kind = targets.float() if targets.is_floating_point() else targets
        with torch.enable_grad():
            (self._slopes,) = torch.autograd.grad(loss(self._at, kind), self._at, create_graph=True)

    def __call__(self, direction: Tensor) -> Tensor:
        """Their product with a direction ``(n, C)``."""
        (product,) = torch.autograd.grad(self._slopes, self._at, direction, retain_graph=True)
        return product

    def mean(self) -> Tensor:
        """Their sum over rows, ``(C, C)``; it is a mean because the loss is one."""
        count, classes = self._at.shape
        if count * classes**2 > MOST:
            p = self._at.detach().softmax(dim=1)
            return p.mean(dim=0).diag() - p.T @ p / count
        unit = torch.eye(classes, device=self._at.device)
        total = torch.stack([self(row.expand_as(self._at)).sum(dim=0) for row in unit])
        return (total + total.T) / 2


@dataclass(frozen=True)
class Point:
    """Where a minimisation ended."""

    head: FittedHead
    loss: float
    gradient: float
    needed: float


class Work:
    """Minimises F, and counts Newton steps and Hessian products."""

    def __init__(self, loss: Loss, classes: int) -> None:
        self.loss, self.classes = loss, classes
        self.steps = self.products = 0

    def minimise(
        self, problem: Rotated, targets: Tensor, l2: float, head: FittedHead | None, tolerance: float
    ) -> Point:
        """F's minimum to a relative ``tolerance``, from a given head or zeros: Newton's method with a line search."""
        t = problem.start(head, self.classes)
        logits, curve = problem.logits(t), problem.penalised(t)
        for _ in range(STEPS):
            at = logits.detach().requires_grad_()
            with torch.enable_grad():
                value = self.loss(at, targets)
                (slopes,) = torch.autograd.grad(value, at)
            now = float(value.detach())
            if not math.isfinite(now):
                raise FmstealError(f"The loss of a head became {now} with l2={l2:g}. Choose a larger recipe.l2.")
            gradient = problem.adjoint(slopes) + l2 * curve
            norm, squared = float(gradient.norm()), max(0.0, float((t * curve).sum()))
            needed = max(tolerance * l2 * math.sqrt(squared), SMALLEST)
            if norm <= needed:
                break
            self.steps += 1
            step = self._step(problem, Hessians(self.loss, logits, targets), l2, gradient)
            change, bend = problem.logits(step), problem.penalised(step)
            slope = float((gradient * step).sum())
            along, across = float((curve * step).sum()), float((bend * step).sum())
            length = 1.0
            for _ in range(HALVINGS):
                new = float(self.loss(logits + length * change, targets))
                gained = now - new - l2 * (length * along + length**2 / 2 * across)
                if gained >= -1e-4 * length * slope:
                    break
                length /= 2
            else:  # as low as float64 can resolve
                break
            t, logits, curve = t + length * step, logits + length * change, curve + length * bend
        return Point(problem.head(t), now, norm, needed)

    def _step(self, problem: Rotated, hessians: Hessians, l2: float, gradient: Tensor) -> Tensor:
        """Newton's step from a gradient, by conjugate gradients."""
        solve = problem.preconditioner(hessians, l2)
        size = float(gradient.abs().max()) or 1.0  # scaled, since float32 has a smallest number
        rest = (-gradient / size).float()
        step = torch.zeros_like(rest)
        guess = solve(rest)
        direction, error = guess, float((rest * guess).sum())
        enough = INEXACT**2 * error
        for _ in range(PRODUCTS):
            product = problem.adjoint(hessians(problem.logits(direction))) + l2 * problem.penalised(direction)
            self.products += 1
            bend = float((direction * product).sum())
            if not bend > 0:
                break
            step = step + error / bend * direction
            rest = rest - error / bend * product
            guess = solve(rest)
            new = float((rest * guess).sum())
            if not new > enough:
                break
            direction, error = guess + new / error * direction, new
        return step.double() * size
