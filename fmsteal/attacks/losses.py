"""Losses of a thief's logits against soft answers, answers softened by a temperature, or the answers' labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers, mark_answers
from fmsteal.training.classifier import soft_cross_entropies


@mark_answers("probabilities")
def soft_cross_entropy(logits: Tensor, answers: Tensor) -> Tensor:
    """Mean over rows of ``-sum_k y_k log softmax(z)_k`` (Knockoff Nets, eq. 1); rows of y need not sum to 1."""
    return soft_cross_entropies(logits, answers).mean()


@mark_answers("probabilities")
def hard_cross_entropy(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy to each answer's argmax."""
    return F.cross_entropy(logits, answers.argmax(dim=1))


@dataclass(frozen=True)
class TemperatureLoss:
    """``T^2 KL(softmax(log y / T) || softmax(z / T))``, mean over rows (E3, Zhu et al. 2024, arXiv 2409.14122).

    As T grows it tends to half the variance over classes of ``log y - z``: small probabilities count as much as large
    ones. Rows of y need not sum to 1. A class answered with 0 has log y = -inf and a share of 0 in the softened answer:
    the thief is pushed away from it without limit, as by a label. A row of zeros adds nothing to the loss.

    Attributes:
        temperature: T; with 1 the loss is soft cross-entropy minus the answers' entropy.
    """

    answers: ClassVar[Answers] = "probabilities"

    temperature: float = 100.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"attack.loss.temperature must be above 0, not {self.temperature}.")

    def __call__(self, logits: Tensor, answers: Tensor) -> Tensor:
        """The loss of logits z and answers y, both ``(n, C)``."""
        softened = (answers.clamp(min=0).log() / self.temperature).softmax(dim=1)
        softened = softened.masked_fill((answers <= 0).all(dim=1, keepdim=True), 0.0)  # else NaN
        apart = F.kl_div((logits / self.temperature).log_softmax(dim=1), softened, reduction="batchmean")
        return self.temperature**2 * apart
