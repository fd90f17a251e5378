"""Losses of encoder attacks as bare loops over samples, from the papers' formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from fmsteal.attacks.cont_steal_two_view import Anchor
from fmsteal.attacks.rda import FLOOR
from tests.support.exact import unit


def cont_steal(thief: Tensor, victim: Tensor, temperature: float) -> Tensor:
    """Over [v; s]: every cosine but an anchor's own in the denominator."""
    z = torch.stack([unit(row) for row in [*victim, *thief]])
    n, each = len(thief), []
    for i in range(2 * n):
        others = [float(j != i) * (z[i] @ z[j] / temperature).exp() for j in range(2 * n)]
        positive = (z[i] @ z[i + n if i < n else i - n] / temperature).exp()
        each.append(-(positive / torch.stack(others).sum()).log())
    return torch.stack(each).sum() / (2 * n)


def two_view(thief: Tensor, victim: Tensor, temperature: float, anchor: Anchor) -> Tensor:
    s, v = [unit(row) for row in thief], [unit(row) for row in victim]
    total = thief.new_zeros(())
    for i in range(len(s)):
        negatives = thief.new_zeros(())
        for j in range(len(s)):
            if j != i:
                across = v[i] @ s[j] if anchor == "victim" else s[i] @ v[j]
                negatives = negatives + (across / temperature).exp() + (s[i] @ s[j] / temperature).exp()
        total = total - ((s[i] @ v[i] / temperature).exp() / negatives).log()
    return total / len(s)


def mse_loop(thief: Tensor, victim: Tensor) -> Tensor:
    pairs = zip(thief.flatten(), victim.flatten(), strict=True)
    return torch.stack([(s - v) ** 2 for s, v in pairs]).mean()


def infonce_loop(thief: Tensor, victim: Tensor, temperature: float) -> Tensor:
    sides = [[unit(row) for row in side] for side in (thief, victim)]
    each = []
    for a in (0, 1):
        for i, anchor in enumerate(sides[a]):
            others = [
                (anchor @ z / temperature).exp() for b in (0, 1) for j, z in enumerate(sides[b]) if (a, i) != (b, j)
            ]
            each.append(torch.stack(others).sum().log() - anchor @ sides[1 - a][i] / temperature)
    return torch.stack(each).mean()


def rda(views: Tensor, targets: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    total = views.new_zeros(())
    for view in views:
        s = [unit(row) for row in view]
        for i in range(len(s)):
            negatives = views.new_zeros(())
            for j in range(len(s)):
                if j != i:
                    negatives = negatives + (s[i] @ targets[j] / temperature).exp() + (s[i] @ s[j] / temperature).exp()
            con = -((s[i] @ targets[i] / temperature).exp() / negatives).log()
            p = targets[i]
            cos = s[i] @ p / (s[i].square().sum() * p.square().sum()).sqrt().clamp_min(1e-8)
            align = -((cos + 1).clamp_min(FLOOR) / (s[i] - p).square().sum().clamp_min(FLOOR)).log()
            total = total + alpha * con + beta * align
    return total / (len(views) * views.shape[1])


def distance_between(s: Tensor, v: Tensor, distance: str, n: int) -> Tensor:
    s, v = unit(s), unit(v)
    if distance == "l2":
        return torch.dist(s, v)
    return (
        (1 - s @ v) / n
        if distance == "cosine"
        else sum(((a - b).abs() for a, b in zip(s, v, strict=True)), s.new_zeros(()))
    )


def stolen_encoder(clean: Tensor, views: Tensor, targets: Tensor, lam: float, distance: str) -> Tensor:
    total, n, k = clean.new_zeros(()), len(clean), len(views)
    for i in range(n):
        total = total + distance_between(clean[i], targets[i], distance, n)
        for j in range(k):
            total = total + lam / k * distance_between(views[j, i], targets[i], distance, n)
    return total


def stolen_encoder_rda(clean: Tensor, views: Tensor, targets: Tensor, lam: float) -> Tensor:
    total, (n, d), k = clean.new_zeros(()), clean.shape, len(views)
    for i in range(n):
        for c in range(d):
            want = unit(targets[i])[c]
            total = total + (unit(clean[i])[c] - want) ** 2 / (n * d)
            for j in range(k):
                total = total + lam * (unit(views[j, i])[c] - want) ** 2 / (n * d * k)
    return total
