"""ModelGuard-W: the answer that reveals least of p within an L1 ball (Tang et al., USENIX Security 2024).

The published code passes each row to a linear program solver. Given the top class's share t, the rest has a closed
form, and the cost is convex in t; so all rows are solved at once by one search over t.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.probabilities import ProbabilityDefense
from fmsteal.oracle.guard import Ask

HALVINGS = 36  # of the interval of feasible t
NARROWINGS = 46  # of the interval that contains the best t, by the golden ratio: to a length of 3e-10
GOLDEN = (5**0.5 - 1) / 2


class ModelGuardW(ProbabilityDefense):
    """Returns ``argmin_y sum_j log(p_j + 1e-6) y_j`` with ``|y - p|_1 <= epsilon``, on the simplex.

    The top class keeps a lead of ``margin`` over every other, which survives float32, and rounding to d decimals if it
    is at least 1e-d. Where even that is impossible within epsilon (near ties with a tiny epsilon), p is returned.
    """

    def __init__(self, epsilon: float = 1.0, margin: float = 1e-4) -> None:
        """``epsilon`` is the largest L1 distance of an answer from p."""
        if not epsilon >= 0:
            raise ConfigError(f"defense.epsilon must be 0 or more, not {epsilon}.")
        if not 0 < margin < 1:
            raise ConfigError(f"defense.margin must be above 0 and below 1, not {margin}.")
        self.epsilon = epsilon
        self.margin = margin

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """Return the solutions, ``(n, K)``."""
        return modelguard_w(p, (p + 1e-6).log(), self.epsilon, self.margin)


def modelguard_w(p: Tensor, cost: Tensor, epsilon: float, margin: float) -> Tensor:
    """Minimise ``cost . y`` for each row, see `ModelGuardW`.

    Args:
        p: distributions, float64 ``(n, K)``.
        cost: the cost per unit of each class, ``(n, K)``; it rises with p in each row.
        epsilon: the largest L1 distance.
        margin: the lead of p's top class in the answer.

    Returns:
        The answers, float64 ``(n, K)``.
    """
    if p.shape[1] < 2 or not len(p):
        return p
    order = p.argsort(dim=1, stable=True)
    top = p.argmax(dim=1, keepdim=True)
    order = torch.cat([order[order != top].view(len(p), -1), top], dim=1)  # ties at the top: the first goes last
    rows = Rows(p.gather(1, order).T.contiguous(), cost.gather(1, order).T.contiguous(), epsilon, margin)
    start, feasible = rows.start()
    low = _halved(rows.allows, start, (start - epsilon / 2 - margin).clip(min=0))
    high = _halved(rows.allows, start, (start + epsilon / 2).clip(max=1))
    best = _narrowed(rows.cost_at, low, high)
    y = torch.where(feasible, rows.fill(best), rows.p).T
    return torch.empty_like(p).scatter_(1, order, y)


class Rows:
    """The linear programs of n rows, as columns ``(K, n)`` sorted by p, the top class last; t ``(n,)`` is its share.

    A column's numbers do not depend on other columns, to the last digit: sums over classes are cumulative sums.
    """

    def __init__(self, p: Tensor, cost: Tensor, epsilon: float, margin: float) -> None:
        self.p, self._cost, self._epsilon, self._margin = p, cost, epsilon, margin
        self._rest, self._top = p[:-1], p[-1]
        self._before = torch.arange(len(p) - 1, dtype=p.dtype)[:, None]

    def start(self) -> tuple[Tensor, Tensor]:
        """The smallest t ``(n,)`` not below p's own that has a solution; and whether that is within epsilon."""

        def pays(t: Tensor) -> Tensor:
            return self._forced(t) <= t - self._top

        # Each other class loses only what exceeds the cap.
        t = _halved(pays, (self._top + self._margin).clip(max=1), self._top)
        return t, 2 * (t - self._top) <= self._epsilon

    def allows(self, t: Tensor) -> Tensor:
        """Whether there is a solution with that t, bool ``(n,)``."""
        gain, cap = self._top - t, t - self._margin
        over = self._rest - cap
        least = torch.maximum(_total(over.clip(min=0)), -gain)
        within = 2 * least + gain <= self._epsilon - gain.abs()
        return (cap >= 0) & within & (least + gain <= _total((-over).clip(min=0)))

    def _forced(self, t: Tensor) -> Tensor:
        """What the other classes lose because none may have more than ``t - margin``, ``(n,)``."""
        return _total((self._rest - (t - self._margin)).clip(min=0))

    def fill(self, t: Tensor) -> Tensor:
        """The best column with that t, ``(K, n)``: mass moves from the costliest other classes to the cheapest."""
        gain, cap = self._top - t, (t - self._margin).clip(min=0)
        capped = torch.minimum(self._rest, cap)
        room = cap - capped
        whole = torch.minimum((1 - t - self._before * cap).clip(min=0), cap)  # what epsilon alone keeps away
        wanted = _total((self._rest - whole).clip(min=0))
        moved = torch.minimum(wanted, (self._epsilon - gain.abs() - gain) / 2).clip(min=0)
        up_to = capped.cumsum(0)
        taken = (moved - (1 - self._top - up_to[-1])).clip(min=0)
        filled = torch.minimum((moved + gain - (room.cumsum(0) - room)).clip(min=0), room)
        drained = torch.minimum((taken - up_to[-1] + up_to).clip(min=0), capped)
        return torch.cat([capped + filled - drained, t[None]])

    def cost_at(self, t: Tensor) -> Tensor:
        """The cost of the best column with that t, ``(n,)``; convex in t."""
        return _total(self._cost * self.fill(t))


def _total(columns: Tensor) -> Tensor:
    return columns.cumsum(0)[-1]


def _halved(holds: Callable[[Tensor], Tensor], good: Tensor, other: Tensor) -> Tensor:
    """The point farthest from ``good`` towards ``other`` at which ``holds`` is still true, by bisection."""
    held = holds(other)
    if held.all():
        return other
    good = torch.where(held, other, good)
    for _ in range(HALVINGS):
        middle = (good + other) / 2
        held = holds(middle)
        good, other = torch.where(held, middle, good), torch.where(held, other, middle)
    return good


def _narrowed(cost: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where a convex cost is least between ``low`` and ``high``, ``(n,)``; never costlier than at either end."""
    ends = torch.stack([low, high])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(NARROWINGS):
        lower = at_left <= at_right
        low, high = torch.where(lower, low, left), torch.where(lower, right, high)
        new = torch.where(lower, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_new = cost(new)
        left, right = torch.where(lower, new, right), torch.where(lower, left, new)
        at_left, at_right = torch.where(lower, at_new, at_right), torch.where(lower, at_left, at_new)
    found = torch.stack([*ends, (low + high) / 2])
    costs = torch.stack([cost(t) for t in found])
    return found.gather(0, costs.argmin(0, keepdim=True))[0]
