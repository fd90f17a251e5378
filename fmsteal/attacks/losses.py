"""Losses of a thief's logits against soft answers, softened or sharpened ones, or the answers' labels."""

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
        softened = temper(answers, self.temperature)
        apart = F.kl_div((logits / self.temperature).log_softmax(dim=1), softened, reduction="batchmean")
        return self.temperature**2 * apart


@dataclass(frozen=True)
class SharpenedLoss:
    """Cross-entropy to the sharpened answer ``y^(1/T) / sum_k y_k^(1/T)``, mean over rows.

    An adaptive attacker's, against defenses that flatten an answer but keep its largest class. As T falls it goes from
    soft cross-entropy to that of the label, shared among equally large classes. Rows of y need not sum to 1; a row of
    zeros adds nothing to the loss.

    Attributes:
        temperature: T, above 0 and at most 1; with 1 the loss is soft cross-entropy of rows that sum to 1.
    """

    answers: ClassVar[Answers] = "probabilities"

    temperature: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 1:
            raise ConfigError(
                f"attack.loss.temperature must be above 0 and at most 1, not {self.temperature}: above 1 answers are "
                "softened, which is attack/loss=temperature."
            )

    def __call__(self, logits: Tensor, answers: Tensor) -> Tensor:
        """The loss of logits z and answers y, both ``(n, C)``."""
        return soft_cross_entropy(logits, temper(answers, self.temperature))


def temper(answers: Tensor, temperature: float) -> Tensor:
    """Rows ``y^(1/T) / sum_k y_k^(1/T)``, ``(n, C)``, for answers of 0 or more; a row of zeros stays one."""
    logarithms = answers.clamp(min=0).log() / temperature
    nothing = (answers <= 0).all(dim=1, keepdim=True)
    return logarithms.masked_fill(nothing, 0.0).softmax(dim=1).masked_fill(nothing, 0.0)
