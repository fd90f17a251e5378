"""Probabilities in the place of logits: a model that gives nothing else has their logarithms for logits."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = float(torch.finfo(torch.float32).tiny)  # stands for 0 in a logarithm


def take_logs(rows: Tensor) -> Tensor:
    """The logarithms of probabilities, float32; what is smaller than `SMALLEST` counts as that."""
    return rows.double().clamp_min(SMALLEST).log().float()
