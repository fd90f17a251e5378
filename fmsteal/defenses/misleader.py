"""MISLEADER (2025): answers are the mean of distilled networks that are trained to be hard for an attacker to follow.

Each member d has its own attacker f, a network of the same kind. On training images and their labels, d is distilled
from the victim (logits v): ``alpha T^2 KL(softmax(v/T) || softmax(d/T)) + (1 - alpha) CE(d, label)``. On augmented
training images f is trained to follow d by ``KL(d || f)``, and d to mislead it, by minus ``weight`` times the same. The
answer is the mean of the members' softmax rows.

KL(d || f) is what the authors' code computes: the paper's objective has KL(f || d), but torch's ``kl_div(log f, d)`` is
KL(d || f). Differences from their code: here d and f step together by one recipe (there f takes one step of five times
its gradient before d does, at its own learning rate, with gradients clipped at 5); the members share one architecture
and differ in seed (there a ResNet-18, a MobileNetV2 and a DenseNet-121, each with other weights and temperatures); the
victim is asked about training images as they are, not augmented; and the last epoch is kept, not the one that is best
on test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.augment import Augment, apply_augment, describe
from fmsteal.data.images import Images
from fmsteal.defenses.base import name_of
from fmsteal.defenses.replacing import ReplacingGuard
from fmsteal.defenses.together import Together, TogetherModule, answer_with, require_steps, require_trainable
from fmsteal.oracle.guard import Depends, Guard
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.learners import ClassifierLearner
from fmsteal.training.recipe import Recipe

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


class Misleader:
    """Answers with the mean of ``members`` networks trained for this purpose; the victim itself does not answer.

    The label may change: it is that of the distilled networks. In a chain it comes first.
    """

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "row"
    replaces: ClassVar[bool] = True

    def __init__(
        self,
        net: ClassifierLearner,
        views: Augment,
        members: int = 3,
        weight: float = 0.001,
        alpha: float = 0.3,
        temperature: float = 6.0,
    ) -> None:
        """``net`` is a member and its training; ``views`` makes the images that attackers are assumed to ask about."""
        if members < 1:
            raise ConfigError(f"defense.members must be at least 1, not {members}.")
        if not 0 <= weight < float("inf") or not 0 <= alpha <= 1 or not 0 < temperature < float("inf"):
            raise ConfigError(
                "MISLEADER needs defense.weight of 0 or more, defense.alpha from 0 to 1 and defense.temperature above "
                f"0, all finite; given: {weight}, {alpha}, {temperature}."
            )
        require_steps(net, name_of(self))
        if net.adaptation == "probe":
            raise ConfigError(
                f"{name_of(self)} augments images in training, which a frozen trunk is not shown: "
                "defense.net.adaptation=full, or scratch."
            )
        self.net, self.views, self.members = net, views, members
        self.weight, self.alpha, self.temperature = float(weight), float(alpha), float(temperature)

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train the members, or load them from the store.

        Raises:
            DataError: the training images have no labels, or not as many classes as the victim's answers.
        """
        labels = require_trainable(victim, train, name_of(self))

        def targets() -> Tensor:
            taught = victim.raw(train, np.arange(len(train)), ctx)
            return torch.cat([taught, labels[:, None].to(taught.dtype)], dim=1)

        settings = {
            "weight": self.weight,
            "alpha": self.alpha,
            "temperature": self.temperature,
            "views": describe(self.views),
            "victim": victim.key,
        }
        module = partial(
            MisleadingModule,
            views=self.views,
            weight=self.weight,
            alpha=self.alpha,
            temperature=self.temperature,
        )
        together = Together(self.net, 2 * self.members, "misleader", settings, module, self.members)
        return MeanGuard(together.prepare(train, train, targets, ctx), ctx)


class MisleadingModule(TogetherModule):
    """Trains members (the first half of the networks), each together with its attacker (in the second half)."""

    def __init__(
        self,
        net: nn.ModuleList,
        recipe: Recipe,
        seed: int,
        views: Augment,
        weight: float,
        alpha: float,
        temperature: float,
    ) -> None:
        super().__init__(net, recipe, seed)
        self.views, self.weight, self.alpha, self.temperature = views, weight, alpha, temperature

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Both losses summed over members; an attacker's loss gives its member no gradient, nor vice versa."""
        inputs, targets, others = batch
        taught, labels = targets[:, :-1], targets[:, -1].long()
        seen, asked = self.show(inputs), apply_augment(self.views, others)
        half = len(self.networks) // 2
        taking, following = inputs.new_zeros((), dtype=torch.float32), inputs.new_zeros((), dtype=torch.float32)
        for member, attacker in zip(self.networks[:half], self.networks[half:], strict=True):
            d, f = member(asked), attacker(asked)
            follow = divergence(d.detach(), f)
            taking = taking + distill(member(seen), taught, labels, self.alpha, self.temperature)
            taking = taking - self.weight * divergence(d, f.detach())
            following = following + follow
        return taking + following, {"members": taking / half, "attackers": following / half}


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The mean KL(first || second) of the softmax rows of logits ``(n, K)``, in nats."""
    return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="batchmean", log_target=True)


def distill(logits: Tensor, taught: Tensor, labels: Tensor, alpha: float, temperature: float) -> Tensor:
    """``alpha T^2 KL(softmax(taught/T) || softmax(logits/T)) + (1 - alpha) CE(logits, labels)``, averaged over rows."""
    soft = divergence(taught / temperature, logits / temperature)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, labels)


class MeanGuard(ReplacingGuard):
    """Answers with the mean of the members' rows."""

    def __init__(self, models: Sequence[Classifier], ctx: Context) -> None:
        self.width = models[0].width
        self._models, self._ctx = models, ctx

    def serve(self, images: Tensor) -> Tensor:
        """The mean rows."""
        return torch.stack([answer_with(model, images, self._ctx) for model in self._models]).mean(0)
