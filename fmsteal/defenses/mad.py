"""MAD, maximising angular deviation: answers turn a thief's gradient (Orekondy, Schiele, Fritz, ICLR 2020).

With G the Jacobian of a surrogate's ``log q`` by its last layer, ``G'y = (y - q) h'``: the layer's input h cancels from
the angle between ``G'y`` and ``G'p``. So no Jacobian is computed; the published code computes one row by row.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.base import RowGuard
from fmsteal.defenses.probabilities import ProbabilityDefense
from fmsteal.defenses.surrogate import Surrogate, apply_in_parts
from fmsteal.oracle.guard import Ask, Guard

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

MOST_CLASSES = 12  # up to this many, all sets of classes are tried
LEAD = 1e-4  # by which the top class leads in a target that keeps the label


class MAD(ProbabilityDefense):
    """Returns ``(1 - a) p + a v`` with ``a = min(1, epsilon / |p - v|_1)``, v the target that turns the gradient most.

    By default v is a vertex of the simplex, and all K are tried; the label is soon lost (at epsilon 1 accuracy too).
    With ``keep_label``, v is a uniform distribution over the top class and any others, with a lead of 1e-4. Up to 12
    classes, all sets of others are tried; above, those of a greedy search and the prefixes of a sorted order (the
    published search fails from 11 to 45 classes). Where ``p = q`` there is no angle, and p is returned.
    """

    _surrogate: Surrogate

    def __init__(self, epsilon: float = 0.5, keep_label: bool = False, seed: int = 0) -> None:
        """``epsilon`` is the largest L1 distance of an answer from p; ``seed`` is that of the surrogate's weights."""
        if not epsilon >= 0:
            raise ConfigError(f"defense.epsilon must be 0 or more, not {epsilon}.")
        self.epsilon = epsilon
        self.keep_label = keep_label
        self.seed = seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Create the surrogate."""
        return self.simulate(victim.width, self.seed)

    def simulate(self, width: int, seed: int) -> Guard:
        """The same with a surrogate of another seed: an attacker does not have the API's."""
        prepared = copy.copy(self)
        prepared._surrogate = Surrogate(width, seed)
        return RowGuard(prepared, width)

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """Return perturbed rows, ``(n, K)``."""
        if not len(p):
            return p
        return mad(p, apply_in_parts(self._surrogate, ask.images()).exp(), self.epsilon, self.keep_label)


def mad(p: Tensor, q: Tensor, epsilon: float, keep_label: bool = False) -> Tensor:
    """The answers to distributions ``p`` for a surrogate that predicts ``q``, both float64 ``(n, K)``."""
    if not keep_label:
        return move_towards_vertex(p, q, epsilon)
    target = find_labelled_target(p, q)
    distance = (target - p).abs().sum(1, keepdim=True)
    still = (distance == 0) | (p == q).all(1, keepdim=True)
    share = (epsilon / distance.masked_fill(still, 1)).clip(max=1)
    return torch.where(still, p, p + share * (target - p)).clip(min=0)


def move_towards_vertex(p: Tensor, q: Tensor, epsilon: float) -> Tensor:
    """The answers whose target is the vertex of the simplex farthest from p in angle, as seen from q."""
    u = p - q
    squared = torch.sub(1 + q.square().sum(1, keepdim=True), q, alpha=2)  # squared distance from q to each vertex
    cosines = (u - (u * q).sum(1, keepdim=True)).mul_(squared.clip(min=1e-15).rsqrt_())
    if float(squared.min()) <= 1e-15:  # q is a vertex itself
        cosines = cosines.masked_fill(squared <= 1e-15, torch.inf)
    vertex = cosines.argmin(1, keepdim=True)
    distance = 2 * (1 - p.gather(1, vertex))
    still = (distance <= 0) | ~u.any(1, keepdim=True)
    share = (epsilon / distance.masked_fill(still, 1)).clip(max=1).masked_fill(still, 0)
    return (p * (1 - share)).scatter_add_(1, vertex, share)


def find_labelled_target(p: Tensor, q: Tensor) -> Tensor:
    """The best target among uniform distributions over the top class and any others; the top class leads by `LEAD`."""
    top = p.argmax(1, keepdim=True)
    others = torch.arange(p.shape[1]).expand_as(p)
    others = others[others != top].view(len(p), -1)
    angles, u = _Angles(p, q), p - q
    first = (u.gather(1, top), q.gather(1, top))
    rest = (u.gather(1, others), q.gather(1, others))
    chosen = _every_set(angles, first, rest) if p.shape[1] <= MOST_CLASSES else _good_set(angles, first, rest)
    target = torch.zeros_like(p).scatter_(1, others, chosen.to(p.dtype)).scatter_(1, top, 1)
    target = target / target.sum(1, keepdim=True)
    return target.scatter_add(1, top, torch.full_like(target[:, :1], LEAD)) / (1 + LEAD)


class _Angles:
    """Cosines (times the length of ``p - q``, which is the same for all) of ``y - q`` with ``p - q``."""

    def __init__(self, p: Tensor, q: Tensor) -> None:
        self._base = ((p - q) * q).sum(1, keepdim=True)
        self._square = q.square().sum(1, keepdim=True)

    def to_uniform(self, sum_u: Tensor, sum_q: Tensor, size: Tensor | int) -> Tensor:
        """Cosines for y uniform over a set of classes, from the sums of ``p - q`` and q over the set: ``(n, sets)``."""
        squared = (1 - 2 * sum_q) / size + self._square
        at_q = squared <= 1e-15
        return ((sum_u / size - self._base) / squared.masked_fill(at_q, 1).sqrt()).masked_fill(at_q, torch.inf)


_Pair = tuple[Tensor, Tensor]  # p - q and q for some classes


def _every_set(angles: _Angles, first: _Pair, rest: _Pair) -> Tensor:
    """Which of the other classes belong to the best of all sets, bool ``(n, K - 1)``."""
    count = rest[0].shape[1]
    sums_u, sums_q = first
    sizes = torch.ones(1, dtype=first[0].dtype)
    for column in range(count):  # sets without this class, then the same with it
        sums_u = torch.cat([sums_u, sums_u + rest[0][:, column : column + 1]], dim=1)
        sums_q = torch.cat([sums_q, sums_q + rest[1][:, column : column + 1]], dim=1)
        sizes = torch.cat([sizes, sizes + 1])
    best = angles.to_uniform(sums_u, sums_q, sizes).argmin(1, keepdim=True)
    return (best >> torch.arange(count)) & 1 == 1


def _good_set(angles: _Angles, first: _Pair, rest: _Pair) -> Tensor:
    """The same among the prefixes of two orders of the other classes."""
    orders = [_greedy_order(angles, first, rest), rest[0].argsort(dim=1, stable=True)]
    found = [_best_beginning(angles, first, rest, order) for order in orders]
    return torch.where(found[0][0] <= found[1][0], found[0][1], found[1][1])


def _greedy_order(angles: _Angles, first: _Pair, rest: _Pair) -> Tensor:
    """The order in which each next class makes the angle widest, int64 ``(n, K - 1)``."""
    sum_u, sum_q = first
    taken = torch.zeros_like(rest[0], dtype=torch.bool)
    order = []
    for size in range(2, rest[0].shape[1] + 2):
        cosines = angles.to_uniform(sum_u + rest[0], sum_q + rest[1], size).masked_fill(taken, torch.inf)
        next_one = cosines.masked_fill(~taken & cosines.isinf(), 9.0).argmin(1, keepdim=True)
        taken = taken.scatter(1, next_one, True)
        sum_u, sum_q = sum_u + rest[0].gather(1, next_one), sum_q + rest[1].gather(1, next_one)
        order.append(next_one)
    return torch.cat(order, dim=1)


def _best_beginning(angles: _Angles, first: _Pair, rest: _Pair, order: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine ``(n, 1)`` and the classes, bool ``(n, K - 1)``, of an order's best prefix, which may be empty."""
    sums = [torch.cat([a, b.gather(1, order)], dim=1).cumsum(1) for a, b in zip(first, rest, strict=True)]
    sizes = torch.arange(1, order.shape[1] + 2, dtype=first[0].dtype)
    cosine, length = angles.to_uniform(sums[0], sums[1], sizes).min(1, keepdim=True)
    inside = torch.arange(order.shape[1]) < length
    return cosine, torch.zeros_like(inside).scatter_(1, order, inside)
