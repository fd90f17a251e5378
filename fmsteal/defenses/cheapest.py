"""The cheapest distribution near another one that keeps its label: linear programs, all rows at once.

Given the top class's share t, the rest has a closed form, and the cost is convex in t; so one search over t solves
them all. Which answers are cheap is the defense's own affair (`fmsteal.defenses.modelguard_w`, `probe_misdirect`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError

HALVINGS = 36  # of the interval of feasible t
NARROWINGS = 46  # of the interval that contains the best t, by the golden ratio: to a length of 3e-10
GOLDEN = (5**0.5 - 1) / 2


def require_room(epsilon: float, margin: float) -> None:
    """Check the options of a defense that answers with `find_cheapest`.

    Raises:
        ConfigError: one of them is out of range.
    """
    if not epsilon >= 0:
        raise ConfigError(f"defense.epsilon must be 0 or more, not {epsilon}.")
    if not 0 < margin < 1:
        raise ConfigError(f"defense.margin must be above 0 and below 1, not {margin}.")


def find_cheapest(p: Tensor, cost: Tensor, epsilon: float, margin: float) -> Tensor:
    """The distribution y of each row with the least ``cost . y``, with ``|y - p|_1 <= epsilon`` and p's label.

    Where no distribution within epsilon has the lead (near ties with a tiny epsilon), it is p.

    Args:
        p: distributions, float64 ``(n, K)``.
        cost: the cost per unit of each class, any finite numbers, float64 ``(n, K)``.
        epsilon: the largest L1 distance.
        margin: the least lead of p's top class over every other.

    Returns:
        The answers, float64 ``(n, K)``.
    """
    if p.shape[1] < 2 or not len(p):
        return p
    order = cost.argsort(dim=1, stable=True)
    top = p.argmax(dim=1, keepdim=True)
    order = torch.cat([order[order != top].view(len(p), -1), top], dim=1)
    rows = Rows(p.gather(1, order).T.contiguous(), cost.gather(1, order).T.contiguous(), epsilon, margin)
    start, feasible = rows.start()
    low = _halved(rows.allows, start, (start - epsilon / 2 - margin).clip(min=0))
    high = _halved(rows.allows, start, (start + epsilon / 2).clip(max=1))
    best = _narrowed(rows.cost_at, low, high)
    y = torch.where(feasible, rows.fill(best), rows.p).T
    return torch.empty_like(p).scatter_(1, order, y)


class Rows:
    """The linear programs of n rows, as columns ``(K, n)`` sorted by cost, the top class last; t ``(n,)`` is its share.

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
