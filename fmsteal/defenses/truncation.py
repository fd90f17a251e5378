"""Defenses that reveal less: only the label, the top k classes, or rounded probabilities."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import RowDefense
from fmsteal.oracle.guard import Ask


class HardLabel(RowDefense):
    """Returns ``onehot(argmax p)``, row by row."""

    answers: ClassVar[Answers] = "probabilities"

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return one-hot rows, ``(n, C)``."""
        return hard_label(answers)


class TopK(RowDefense):
    """Returns the k largest probabilities, zero elsewhere; ``renormalise`` makes the rows sum to 1 again."""

    answers: ClassVar[Answers] = "probabilities"

    def __init__(self, k: int, renormalise: bool = False) -> None:
        if k < 1:
            raise ConfigError(f"defense.k must be at least 1, not {k}.")
        self.k = k
        self.renormalise = renormalise

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return truncated rows, ``(n, C)``."""
        return top_k(answers, self.k, self.renormalise)


class Rounding(RowDefense):
    """Returns probabilities rounded to ``decimals`` decimals; rows need not sum to 1."""

    answers: ClassVar[Answers] = "probabilities"

    def __init__(self, decimals: int) -> None:
        if decimals < 0:
            raise ConfigError(f"defense.decimals must not be negative, but is {decimals}.")
        self.decimals = decimals

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return rounded rows, ``(n, C)``."""
        return torch.round(answers, decimals=self.decimals)


def hard_label(probabilities: Tensor) -> Tensor:
    """One-hot of each row's largest entry (ties go to the first), ``(n, C)``."""
    return F.one_hot(probabilities.argmax(dim=1), probabilities.shape[1]).to(probabilities.dtype)


def top_k(probabilities: Tensor, k: int, renormalise: bool = False) -> Tensor:
    """Keep exactly the ``min(k, C)`` largest entries of each row; zero the rest."""
    values, places = probabilities.topk(min(k, probabilities.shape[1]), dim=1)
    kept = torch.zeros_like(probabilities).scatter_(1, places, values)
    return kept / kept.sum(dim=1, keepdim=True) if renormalise else kept
