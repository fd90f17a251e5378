"""Adaptive misinformation: wrong answers where the victim is not sure (Kariyappa, Qureshi, CVPR 2020, eq. 3 to 5).

Before the first answer, a second network is trained on the victim's training data to give any label but the right one,
with the loss ``-log(1 - q_label)``. Questions about images that the victim was not made for mostly get its answer.

The paper's outlier exposure is left out: the victim is served as it is, not retrained to be unsure of outliers, and the
second network sees only the victim's training images, no outliers. So s separates less well than in the paper, and an
honest client's unsure answers are lost as well: both are measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images
from fmsteal.defenses.base import name_of
from fmsteal.defenses.probabilities import to_distributions
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question
from fmsteal.training.classifier import Classifier, save_weights
from fmsteal.training.context import Context
from fmsteal.training.inference import run_in_batches
from fmsteal.training.learners import ClassifierLearner

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


class AdaptiveMisinformation:
    """Returns ``(1 - a) p + a q``, ``a = 1 / (1 + exp(nu (s - tau)))``; s the largest of p, q the second network's.

    The label may change unless s is well above tau.
    """

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "row"

    def __init__(self, net: ClassifierLearner, tau: float = 0.5, nu: float = 1000.0) -> None:
        """``net`` is the second network and its training; ``nu`` sets how sharp the threshold ``tau`` is.

        The paper uses nu 1,000, its code 10,000, and tau from .25 to .99.
        """
        if not 0 <= tau <= 1:
            raise ConfigError(f"defense.tau must be from 0 to 1, not {tau}.")
        if not 0 < nu < float("inf"):
            raise ConfigError(f"defense.nu must be above 0, and finite, not {nu}.")
        if net.is_convex:
            raise ConfigError(
                "defense.net is trained on a loss that is not convex, for which recipe.solver=convex is not meant: "
                "defense.net.recipe.solver=steps."
            )
        self.net, self.tau, self.nu = net, tau, nu

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train the second network, or load it from the store.

        Raises:
            DataError: the training images have no labels.
        """
        classes = victim.width
        if train.labels is None:
            raise DataError(
                f"{name_of(self)} trains a network on the victim's training data, but that has no labels: data=... ."
            )
        if len(train.classes) != classes:
            raise DataError(
                f"{name_of(self)} trains a network on {len(train.classes)} classes, but the victim's answers have "
                f"{classes}: in a chain it comes before what changes the width (defense.of.a=...)."
            )
        spec = {
            "defense": "adaptive misinformation",
            "learner": self.net.identity(),
            "trainer": ctx.training.identity(),
            "data": train.digest,
            "classes": classes,
        }
        slug = f"misinformation-{self.net.backbone.model}"
        place = ctx.store.get("defenses", slug, spec, lambda out, scratch: self._train(train, ctx, out, scratch))
        model = self.net.build(classes, role="victim")
        model.trained.load_state_dict(load_file(place / "weights.safetensors"))
        return MisinformationGuard(model.eval(), self.tau, self.nu, name_of(self), ctx)

    def _train(self, train: Images, ctx: Context, out: Path, scratch: Path) -> None:
        labels = torch.from_numpy(np.array(train.labels))
        fit = partial(self.net.fit, stage="misinformation", scratch=scratch, role="victim")
        save_weights(
            fit(train, np.arange(len(train)), labels, len(train.classes), avoid_label, ctx), out / "weights.safetensors"
        )


class MisinformationGuard:
    """Mixes each row with the second network's."""

    def __init__(self, model: Classifier, tau: float, nu: float, name: str, ctx: Context) -> None:
        self.width = model.width
        self._model, self._tau, self._nu, self._name, self._ctx = model, tau, nu, name, ctx

    def reply(self, ask: Ask) -> Reply:
        """The mixed rows."""
        p = to_distributions(ask.answers, self._name)
        if not len(p):
            return Reply(ask.answers)
        images = ask.images()
        wrong = run_in_batches(self._model, lambda part: images[part], len(images), self._ctx).double().softmax(1)
        return Reply(mix_answers(p, wrong, self._tau, self._nu).float())

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """There is no state."""


def mix_answers(p: Tensor, wrong: Tensor, tau: float, nu: float) -> Tensor:
    """``(1 - a) p + a wrong`` of each row ``(n, K)``, with ``a = 1 / (1 + exp(nu (max p - tau)))``."""
    share = (nu * (tau - p.amax(1, keepdim=True))).sigmoid()
    return (1 - share) * p + share * wrong


def avoid_label(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of ``-log(1 - q_label)``, with q the softmax of logits ``(n, K)``, labels ``(n,)``."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return (logits.logsumexp(1) - others.logsumexp(1)).mean()
