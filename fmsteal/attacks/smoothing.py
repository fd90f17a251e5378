"""An adaptive attacker against perturbed probabilities: averages repeated answers, and smooths the result."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fmsteal.attacks.base import mean_answer
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Ids
from fmsteal.oracle.oracle import Oracle


@dataclass(frozen=True)
class Smoothing(Knockoff):
    """As `Knockoff`, on the mean of several answers to each image, mixed with the uniform distribution.

    The mean reduces what a defense draws anew for each question (`RepeatAverage`); the mixture keeps the thief from
    learning too confidently what a defense does to every answer.

    Attributes:
        repeats: questions about each image; the budget is for that many times fewer images.
        smoothing: weight of the uniform distribution, below 1; 0 for none.
    """

    repeats: int = 5
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats < 1 or not 0 <= self.smoothing < 1:
            raise ConfigError(
                "attack.repeats must be at least 1 and attack.smoothing at least 0 and below 1, not "
                f"{self.repeats} and {self.smoothing}."
            )

    @property
    def asks(self) -> int:
        """Questions about each image, all paid for."""
        return self.repeats

    def transfer_set(self, oracle: Oracle, ids: Ids, seed: int) -> tuple[Ids, Tensor]:
        """The images with the smoothed mean of their answers."""
        return ids, smooth(mean_answer(oracle, ids, self.repeats), self.smoothing)


def smooth(answers: Tensor, weight: float) -> Tensor:
    """``(1 - weight) y + weight / C`` for rows ``(n, C)``."""
    return (1 - weight) * answers + weight / answers.shape[1]
