"""Defenses that reveal less of an embedding: only its k largest entries, few decimals, or added noise."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.truncation import top_k
from fmsteal.oracle.guard import Ask


class FeatureTopK(RowDefense):
    """Returns the k largest entries (by signed value, not magnitude), zero elsewhere."""

    answers: ClassVar[Answers] = "embeddings"

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ConfigError(f"defense.k must be at least 1, not {k}.")
        self.k = k

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return truncated rows, ``(n, D)``."""
        return top_k(answers, self.k)


class FeatureRounding(RowDefense):
    """Returns the normalised embedding rounded to ``decimals`` decimals; a row may become all zero."""

    answers: ClassVar[Answers] = "embeddings"

    def __init__(self, decimals: int) -> None:
        if decimals < 0:
            raise ConfigError(f"defense.decimals must not be negative, but is {decimals}.")
        self.decimals = decimals

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return rounded rows, ``(n, D)``."""
        return torch.round(F.normalize(answers, dim=1), decimals=self.decimals)


class FeatureNoise(RowDefense):
    """Returns the normalised embedding plus ``N(0, sigma^2)`` on every entry, anew for each (client, image, ask)."""

    answers: ClassVar[Answers] = "embeddings"

    def __init__(self, sigma: float) -> None:
        if not 0 <= sigma < float("inf"):
            raise ConfigError(f"defense.sigma must be 0 or more, and finite, not {sigma}.")
        self.sigma = sigma

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return noisy rows, ``(n, D)``; not normalised again."""
        rows = F.normalize(answers, dim=1)
        if not len(rows):
            return rows
        noise = [torch.randn(rows.shape[1], generator=ask.generator(row)) for row in range(len(rows))]
        return rows + self.sigma * torch.stack(noise).to(rows)
