"""Noise on probabilities, the usual baseline in papers on defenses (MAD, Orekondy et al., ICLR 2020).

Published codes draw anew for each answer, so repeated questions average the noise away. ``per: ask`` does the same;
``per: image`` freezes the noise of an image, ``per: client`` draws it once per client.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.probabilities import ProbabilityDefense, normalise
from fmsteal.oracle.guard import Ask


class Noise(ProbabilityDefense):
    """Returns ``norm(clip(p + noise, 0))``; a row that would be all zero is returned as it is.

    The largest class may change: an honest client pays for it in accuracy.
    """

    def __init__(self, sigma: float, per: Literal["ask", "image", "client"] = "ask") -> None:
        """``sigma`` is the noise's standard deviation per probability; ``per`` says what shares the same noise."""
        if not 0 <= sigma < float("inf"):
            raise ConfigError(f"defense.sigma must be 0 or more, and finite, not {sigma}.")
        self.sigma = sigma
        self.per = per

    def draw(self, classes: int, generator: torch.Generator) -> Tensor:
        """Noise of standard deviation 1, float64 ``(K,)``."""
        raise NotImplementedError

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """Return noisy rows, ``(n, K)``."""
        if not len(p):
            return p
        noise = [self.draw(p.shape[1], ask.generator(row, per=self.per)) for row in range(len(p))]
        return normalise((p + self.sigma * torch.stack(noise)).clip(min=0), p)


class Gaussian(Noise):
    """Noise ``N(0, sigma^2)``."""

    def draw(self, classes: int, generator: torch.Generator) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(classes, dtype=torch.float64, generator=generator)


class Laplace(Noise):
    """Double-exponential noise, ``Laplace(0, sigma / sqrt(2))``: the difference of two exponentials."""

    def draw(self, classes: int, generator: torch.Generator) -> Tensor:
        """Return numbers with density ``exp(-sqrt(2) |x|) / sqrt(2)``."""
        one, other = torch.empty(2, classes, dtype=torch.float64).exponential_(generator=generator)
        return (one - other) / 2**0.5
