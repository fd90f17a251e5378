"""Adaptive misinformation with outlier exposure, as published (Kariyappa, Qureshi, CVPR 2020), replacing the victim.

Two networks are trained together on the victim's training images and on outliers. The first one serves in the victim's
place: its loss is the cross-entropy plus ``weight`` times the cross-entropy of its answers to outliers with the uniform
row, so that it is unsure of them. The second one gives any label but the right one, ``-log(1 - q_label)``; for an
outlier the first network's label counts as right. The answer mixes both as in
`fmsteal.defenses.adaptive_misinformation`.

This follows the official code. There each network has its own optimiser with the same settings, which is equivalent,
and ``-log(1 - q)`` is normalised over the classes, which adds a constant.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images
from fmsteal.defenses.adaptive_misinformation import avoid_label, mix_answers
from fmsteal.defenses.base import name_of
from fmsteal.defenses.outliers import Outliers
from fmsteal.defenses.replacing import ReplacingGuard
from fmsteal.defenses.together import Together, TogetherModule, answer_with, require_steps, require_trainable
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.learners import ClassifierLearner
from fmsteal.training.recipe import Recipe

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


class ExposedMisinformation:
    """Returns ``(1 - a) p + a q``, ``a = 1 / (1 + exp(nu (s - tau)))``, s the largest of p, from two networks p and q.

    The label may change: the victim itself does not answer. In a chain it comes first.
    """

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "row"
    replaces: ClassVar[bool] = True

    def __init__(
        self,
        net: ClassifierLearner,
        outliers: Outliers,
        tau: float = 0.5,
        nu: float = 1000.0,
        weight: float = 1.0,
    ) -> None:
        """``net`` is each of the two networks and its training; ``weight`` is the weight of outlier exposure.

        The paper uses nu 1,000, its code 10,000; tau from .25 to .99; weight 1.
        """
        if not 0 <= tau <= 1:
            raise ConfigError(f"defense.tau must be from 0 to 1, not {tau}.")
        if not 0 < nu < float("inf") or not 0 <= weight < float("inf"):
            raise ConfigError(
                f"defense.nu must be above 0, defense.weight 0 or more, and both finite, not {nu} and {weight}."
            )
        require_steps(net, name_of(self))
        self.net, self.outliers = net, outliers
        self.tau, self.nu, self.weight = tau, nu, float(weight)

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train both networks, or load them from the store.

        Raises:
            DataError: the training images have no labels, or not as many classes as the victim's answers.
        """
        labels, outliers = require_trainable(victim, train, name_of(self)), self.outliers.load(train, ctx.store)
        module = partial(ExposedModule, weight=self.weight)
        together = Together(self.net, 2, "exposed-misinformation", {"weight": self.weight}, module, 2)
        right, wrong = together.prepare(train, outliers, lambda: labels, ctx)
        return ExposedGuard(right, wrong, self.tau, self.nu, ctx)


class ExposedModule(TogetherModule):
    """Trains the first network to be right, and unsure of outliers, and the second to be wrong about both."""

    def __init__(self, net: nn.ModuleList, recipe: Recipe, seed: int, weight: float) -> None:
        super().__init__(net, recipe, seed)
        self.weight = weight

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both losses; no weight gets a gradient from both."""
        inputs, labels, outliers = batch
        seen = torch.cat([self.show(inputs), self.show(outliers)])
        right, wrong = (network(seen) for network in self.networks)
        known, foreign = right[: len(inputs)], right[len(inputs) :]
        fit, unsure = F.cross_entropy(known, labels), be_unsure(foreign)
        avoid = avoid_label(wrong, torch.cat([labels, foreign.argmax(1)]))
        logs = {"cross_entropy": fit, "unsure": unsure, "avoid": avoid}
        return fit + self.weight * unsure + avoid, logs


def be_unsure(logits: Tensor) -> Tensor:
    """The mean cross-entropy of the softmax of logits ``(n, K)`` with the uniform row, in nats."""
    return (logits.logsumexp(1) - logits.mean(1)).mean()


class ExposedGuard(ReplacingGuard):
    """Mixes the rows of two networks."""

    def __init__(self, right: Classifier, wrong: Classifier, tau: float, nu: float, ctx: Context) -> None:
        self.width = right.width
        self._right, self._wrong, self._tau, self._nu, self._ctx = right, wrong, tau, nu, ctx

    def serve(self, images: Tensor) -> Tensor:
        """The rows of the network that is unsure of outliers, not mixed with those of the other."""
        return answer_with(self._right, images, self._ctx)

    def reply(self, ask: Ask) -> Reply:
        """The mixed rows."""
        if not len(ask.questions):
            return Reply(ask.answers)
        images = ask.images()
        p, q = self.serve(images), answer_with(self._wrong, images, self._ctx)
        return Reply(mix_answers(p, q, self._tau, self._nu).float())
