"""Robust victims by adversarial training, which defends against white-box attacks, not against stealing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmsteal.base.errors import ConfigError
from fmsteal.training.adversarial import AdversarialModule
from fmsteal.training.classifier import Loss
from fmsteal.training.learners import Untrained
from fmsteal.training.recipe import Recipe
from fmsteal.victims.classifier import ClassifierVictim


@dataclass(frozen=True)
class AdversarialVictim(ClassifierVictim):
    """A classifier fitted to adversarial examples of the task's training images (see also `ClassifierLearner`).

    Attributes:
        eps: maximum change of a pixel in [0, 1].
        step: length of a PGD step; None: 1.25 eps if there is one step, else 2.5 eps / steps.
        steps: number of PGD steps, from a random start.
    """

    eps: float = 8 / 255
    step: float | None = None
    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptation == "probe":
            raise ConfigError(
                "Adversarial training moves a whole model, but victim.adaptation=probe freezes the trunk: "
                "victim.adaptation=scratch, or full."
            )
        if self.eps <= 0 or self.steps < 1 or (self.step is not None and self.step <= 0):
            raise ConfigError(
                "Adversarial training needs victim.eps above 0, victim.steps of at least 1 and a victim.step above 0, "
                f"or null; given: {self.eps}, {self.steps}, {self.step}."
            )

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the data."""
        return {**super().identity(), "adversarial": {"eps": self.eps, "step": self._step, "steps": self.steps}}

    def module(self, start: Untrained, loss: Loss, recipe: Recipe) -> AdversarialModule:
        """The module that takes the steps of a recipe."""
        return AdversarialModule(start.net, loss, recipe, start.seed, self.eps, self._step, self.steps)

    @property
    def _step(self) -> float:
        if self.step is not None:
            return self.step
        return 1.25 * self.eps if self.steps == 1 else 2.5 * self.eps / self.steps
