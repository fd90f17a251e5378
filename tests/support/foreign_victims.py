"""Victims of another package: a linear one that is there at once, and what a test changes about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmsteal.data.images import Task
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from fmsteal.victims.classifier import ClassifierVictim
from tests.support.public_trunk import head_on_trunk

SCALE = [8.0]  # of its weights: what somebody changes without a word


class Model(nn.Module):
    """Logits that are linear in the mean colours of an image's 16 parts; counts the images it sees."""

    seen = 0

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.width = classes
        weights = torch.randn(48, classes, generator=torch.Generator().manual_seed(3))
        self.linear = nn.Linear(48, classes)
        with torch.no_grad():
            self.linear.weight.copy_(SCALE[0] * weights.T)
            self.linear.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        Model.seen += len(images)
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Linear(ClassifierVictim):
    """A victim that need not be trained.

    Attributes:
        paid: whether each image costs money.
    """

    paid: bool = False

    def prepare(self, task: Task, ctx: Context) -> Victim:
        return Victim("linear", Model(task.num_classes).eval(), paid=self.paid)


@dataclass(frozen=True)
class OnTrunk(ClassifierVictim):
    """A victim with a head, untrained, on a frozen public trunk."""

    def prepare(self, task: Task, ctx: Context) -> Victim:
        return Victim("on-trunk", head_on_trunk(task.num_classes).eval())
