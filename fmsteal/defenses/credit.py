"""CREDIT's answers: noise and a fixed shift, to verify ownership of a suspect (Shen et al., 2026, arXiv 2602.20419).

The shift is as long as the noise of one entry. In the paper it raises all logits of the victim's linear head equally,
so no label changes; an encoder has no head, so here the shift is a random direction drawn from the seed. Embeddings are
not normalised: ``sigma`` is in units of their entries. `evaluation=credit` looks for both in the thief.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fmsteal.base.directions import draw_direction
from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import RowDefense
from fmsteal.oracle.guard import Ask


class Credit(RowDefense):
    """Returns ``v + N(0, sigma^2) + sigma u``: new noise for each (client, image, ask), u a fixed unit vector."""

    answers: ClassVar[Answers] = "embeddings"

    def __init__(self, sigma: float = 0.1, seed: int = 0) -> None:
        if not 0 < sigma < float("inf"):
            raise ConfigError(f"defense.sigma must be above 0, and finite, not {sigma}.")
        self.sigma, self.seed = sigma, seed

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return noisy, shifted rows, ``(n, D)``."""
        if not len(answers):
            return answers
        shift = self.sigma * draw_direction(answers.shape[1], self.seed).to(answers)
        noise = [torch.randn(answers.shape[1], generator=ask.generator(row)) for row in range(len(answers))]
        return answers + self.sigma * torch.stack(noise).to(answers) + shift
