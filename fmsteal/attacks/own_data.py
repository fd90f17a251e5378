"""A baseline for all attacks that needs no theft: a thief trained on labelled images of the victim's task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from fmsteal.attacks.base import ONLY_FITTED, Attack, AttackContext, require_no_budget
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images, Task
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle

Labelled = Literal["unseen", "train"]


@dataclass(frozen=True)
class OwnData:
    """Asks nothing: trains the thief on labelled images of the victim's task that the victim did not see.

    They are the images that the victim's training subset (``data.train_count``) left out. The query set is not used.

    Attributes:
        images: number of images, chosen at random by the seed; a smaller choice is part of a larger one. None for all.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED
    labelled: ClassVar[Labelled] = "unseen"  # what `AttackContext.labelled` holds: see `find_labelled_images`

    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise ConfigError(f"attack.images must be at least 1, or null for all, not {self.images}.")

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget: it would suggest that questions were asked."""
        require_no_budget(budget)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Train on the labels by cross-entropy."""
        if ctx.labelled is None or ctx.labelled.labels is None:
            raise AttackError("this attack trains on labelled images, and was handed none.")
        ids = random(len(ctx.labelled), len(ctx.labelled) if self.images is None else self.images, ctx.seed)
        labels = F.one_hot(torch.from_numpy(ctx.labelled.labels[ids]), oracle.width).float()
        return ctx.fit_thief(ctx.labelled, ids, labels, soft_cross_entropy)


@dataclass(frozen=True)
class OwnDataCeiling(OwnData):
    """The same on the victim's own training images, which no attacker has: the most that labels alone can give."""

    labelled: ClassVar[Labelled] = "train"


def find_labelled_images(attack: Attack, task: Task) -> Images | None:
    """The labelled images that an attack declares by an attribute ``labelled``; None without that attribute.

    ``unseen``: the training images that the victim's subset left out. ``train``: the victim's own.

    Raises:
        ConfigError: there are no such images, or fewer than the attack's option ``images`` asks for.
    """
    which: Labelled | None = getattr(attack, "labelled", None)
    if which is None:
        return None
    images = task.train if which == "train" else task.rest
    if images is None:
        raise ConfigError(
            "This attack trains on labelled images that the victim did not see, but the victim is trained on all of "
            f"the {len(task.train)} that there are. Leave some out: data.train_count=N."
        )
    wanted = getattr(attack, "images", None)
    if wanted is not None and wanted > len(images):
        there = "the victim was trained on" if which == "train" else "the victim did not see"
        raise ConfigError(
            f"attack.images={wanted} is more than the {len(images)} labelled images that {there}: choose fewer"
            f"{'' if which == 'train' else ', or a smaller data.train_count'}."
        )
    return images
