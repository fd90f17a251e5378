"""How alike two classifiers are. Pure functions of logits ``(n, C)``; every figure is a mean over images (micro)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor


def agreement(victim: Tensor, thief: Tensor) -> float:
    """Share of images on which both have the same argmax."""
    return (victim.argmax(1) == thief.argmax(1)).double().mean().item()


def agreement_at(k: int, victim: Tensor, thief: Tensor) -> float:
    """Share of images on which the victim's top-1 is among the thief's top-k (k is at most the number of classes)."""
    best = thief.topk(min(k, thief.shape[1]), dim=1).indices
    return (best == victim.argmax(1, keepdim=True)).any(1).double().mean().item()


def kappa(victim: Tensor, thief: Tensor) -> float | None:
    """Cohen's kappa of both argmaxes: (p - e) / (1 - e), p their agreement, e that of unrelated answers.

    The unrelated answers are as frequent as theirs.

    Args:
        victim: logits ``(n, C)``.
        thief: logits ``(n, C)``.

    Returns:
        1 if they always agree, 0 if no more than by chance; None for a victim that answers one class, with which any
        thief's agreement is that of chance.
    """
    said, copied = victim.argmax(1), thief.argmax(1)
    shares = [torch.bincount(each, minlength=victim.shape[1]).double() / len(each) for each in (said, copied)]
    if (shares[0] > 0).sum() < 2:
        return None
    chance = (shares[0] @ shares[1]).item()
    return (agreement(victim, thief) - chance) / (1 - chance)


def find_least_sure(logits: Tensor) -> Tensor:
    """Row numbers of the tenth of the images that a model is least sure of, rounded up, the least sure first.

    A model is as sure as its largest softmax probability; ties go to the first images.
    """
    sure = logits.double().softmax(1).max(1).values
    return sure.argsort(stable=True)[: -(-len(logits) // 10)]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose argmax is the label."""
    return (logits.argmax(1) == labels).double().mean().item()


def kl(victim: Tensor, thief: Tensor) -> float:
    """Mean KL(victim || thief) of the softmax rows, in nats."""
    v, t = F.log_softmax(victim.double(), 1), F.log_softmax(thief.double(), 1)
    return F.kl_div(t, v, reduction="batchmean", log_target=True).item()


def l1(victim: Tensor, thief: Tensor) -> float:
    """Mean L1 distance of the softmax rows, between 0 and 2."""
    return (victim.double().softmax(1) - thief.double().softmax(1)).abs().sum(1).mean().item()


def wilson(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share of n images."""
    interval = binomtest(round(share * n), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
