"""EDM, an ensemble of diverse models: members disagree off-domain, and each image is answered by one of them.

Kariyappa, Prakash, Qureshi: "Protecting DNNs from Theft using an Ensemble of Diverse Models", ICLR 2021.
The members are trained to be right on the victim's training images and to differ on outliers: cross-entropy plus
``weight`` times the mean over outliers of ``log sum_{a<b} exp(cos(p_a, p_b))``, p_a the softmax row of member a. A hash
of the image decides which member answers. So the function a thief learns from is full of jumps where the thief asks,
and smooth where an honest client does.

The official code was never released. A public re-implementation takes the hash from a network trained on a further
labelled data set (SVHN for CIFAR-10): ``(2 c + floor(2 (10 q - 1) / 9)) mod 5``, c its class and q its confidence. Here
no such data set is needed: the hash is the index of the untrained network's output that is furthest above its mean on
training images and outliers, in standard deviations. Like the published hash, it hardly ever changes with a slight
change of the image, so asking again does not reveal all members. The loss could not be checked against the paper's
text, and the paper's weight is not known: 1 is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images, choose_ids
from fmsteal.defenses.base import name_of
from fmsteal.defenses.outliers import Outliers
from fmsteal.defenses.replacing import ReplacingGuard
from fmsteal.defenses.surrogate import Surrogate, apply_in_parts
from fmsteal.defenses.together import Together, TogetherModule, answer_with, require_steps, require_trainable
from fmsteal.oracle.guard import Depends, Guard
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.learners import ClassifierLearner
from fmsteal.training.recipe import Recipe

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim

LOOKED_AT = 1000  # at most this many training images, and outliers, standardise the outputs of the hash's network


class Ensemble:
    """Answers with one of ``members`` networks trained for this purpose; the victim itself does not answer.

    The label may change: the members are trained on labels, not on the victim's answers. In a chain it comes first.
    """

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "row"
    replaces: ClassVar[bool] = True

    def __init__(
        self, net: ClassifierLearner, outliers: Outliers, members: int = 5, weight: float = 1.0, seed: int = 0
    ) -> None:
        """``net`` is a member and its training; ``seed`` is that of the hash."""
        if members < 2:
            raise ConfigError(f"defense.members must be at least 2, not {members}.")
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"defense.weight must be 0 or more, and finite, not {weight}.")
        require_steps(net, name_of(self))
        self.net, self.outliers, self.members, self.seed = net, outliers, members, seed
        self.weight = float(weight)

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train the members, or load them from the store.

        Raises:
            DataError: the training images have no labels, or not as many classes as the victim's answers.
        """
        labels, outliers = require_trainable(victim, train, name_of(self)), self.outliers.load(train, ctx.store)
        together = Together(
            self.net,
            self.members,
            "ensemble",
            {"weight": self.weight},
            partial(DiverseModule, weight=self.weight),
            self.members,
        )
        models = together.prepare(train, outliers, lambda: labels, ctx)
        return EnsembleGuard(models, ImageHash(self.members, self.seed, [train, outliers]), ctx)


class DiverseModule(TogetherModule):
    """Fits all members to the labels, and pushes their answers to outliers apart."""

    def __init__(self, net: nn.ModuleList, recipe: Recipe, seed: int, weight: float) -> None:
        super().__init__(net, recipe, seed)
        self.weight = weight

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean cross-entropy of the members, plus ``weight`` times their similarity on outliers."""
        inputs, labels, outliers = batch
        seen = torch.cat([self.show(inputs), self.show(outliers)])  # one batch: BatchNorm sees both, as when it serves
        logits = torch.stack([network(seen) for network in self.networks])
        fit = torch.stack([F.cross_entropy(rows[: len(inputs)], labels) for rows in logits]).mean()
        alike = compare_members(logits[:, len(inputs) :].softmax(-1)).mean()
        return fit + self.weight * alike, {"cross_entropy": fit, "alike": alike}


def compare_members(p: Tensor) -> Tensor:
    """``log sum_{a<b} exp(cos(p_a, p_b))``, ``(n,)``, for the rows ``p (N, n, K)`` of N members."""
    cosines = [F.cosine_similarity(p[a], p[b], dim=-1) for a, b in combinations(range(len(p)), 2)]
    return torch.stack(cosines).logsumexp(0)


class ImageHash:
    """Which member answers an image: the output of an untrained network that is furthest above its usual value."""

    def __init__(self, members: int, seed: int, usual: Sequence[Images]) -> None:
        """Some of the ``usual`` images give each output's mean and deviation, so that all members get used."""
        self._network = Surrogate(members, seed)
        some = [images.pixels[choose_ids(len(images), min(LOOKED_AT, len(images)), seed)] for images in usual]
        scores = torch.cat([self._scores(torch.from_numpy(np.array(pixels))) for pixels in some])
        self._mean, self._deviation = scores.mean(0), scores.std(0, correction=0).clip(min=1e-12)

    def pick(self, images: Tensor) -> Tensor:
        """The member of each image, ``(n,)``."""
        return ((self._scores(images) - self._mean) / self._deviation).argmax(1)

    def _scores(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return apply_in_parts(self._network, images)


class EnsembleGuard(ReplacingGuard):
    """Answers each image with the member selected by its hash."""

    def __init__(self, models: Sequence[Classifier], picks: ImageHash, ctx: Context) -> None:
        self.width = models[0].width
        self._models, self._picks, self._ctx = models, picks, ctx

    def serve(self, images: Tensor) -> Tensor:
        """The members' rows."""
        member, rows = self._picks.pick(images), torch.zeros(len(images), self.width)
        for number, model in enumerate(self._models):
            own = member == number
            if own.any():
                rows[own] = answer_with(model, images[own], self._ctx).float()
        return rows
