"""How alike two classifiers are. Pure functions of logits ``(n, C)``; every figure is a mean over images (micro)."""

from __future__ import annotations

import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor


def agreement(victim: Tensor, thief: Tensor) -> float:
    """Share of images on which both have the same argmax."""
    return (victim.argmax(1) == thief.argmax(1)).double().mean().item()


def agreement_at(k: int, victim: Tensor, thief: Tensor) -> float:
    """Share of images whose victim's top-1 is among the thief's top-k (k is cut to the number of classes)."""
    best = thief.topk(min(k, thief.shape[1]), dim=1).indices
    return (best == victim.argmax(1, keepdim=True)).any(1).double().mean().item()


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
