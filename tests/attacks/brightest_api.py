"""An API that tells an image's brightest channel, and a thief of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.config import build
from fmsteal.data.images import Ids, Images
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.context import Context
from tests.support.composing import composed

COLOURS = np.random.default_rng(1).integers(0, 200, (60, 3, 1, 1))


POOL = Images(
    (COLOURS + np.random.default_rng(2).integers(0, 56, (60, 3, 16, 16))).astype(np.uint8), "coloured squares"
)


QUICK = ("thief=resnet10t", "thief.backbone.size=32", "recipes.scratch.epochs=2", "recipes.scratch.min_steps=0")


class Brightest(nn.Module):
    """A victim that tells an image's brightest channel."""

    width = 3

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return 10 * x.mean(dim=(2, 3))


def recorded(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What an oracle is asked from now on, call by call."""
    calls: list[list[int]] = []
    ask = oracle.ask

    def listening(ids: Ids, client: int = 0) -> Tensor:
        answers = ask(ids, client)
        calls.append(ids.tolist())
        return answers

    monkeypatch.setattr(oracle, "ask", listening)
    return calls


def thief_of(ctx: Context) -> AttackContext:
    return AttackContext(build.make(composed(*QUICK).thief), ctx)
