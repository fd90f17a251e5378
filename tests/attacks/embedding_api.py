"""An API that answers with embeddings, and attacks on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.an_api import in_front_of
from tests.support.composing import TINY, composed
from tests.support.small_task import context

RANDOM = np.random.default_rng(1)


LEVELS = RANDOM.integers(0, 200, (64, 3, 2, 1)).repeat(8, axis=2)  # of each image's upper and lower half


POOL = Images((LEVELS + RANDOM.integers(0, 56, (64, 3, 16, 16))).astype(np.uint8), "pool")


THIEF = ("thief=encoder_resnet10", "backbone@thief.backbone=resnet10t", "thief.backbone.size=32", f"thief.{TINY}")


QUICK = ("task=embed", *THIEF, "attack.recipe.epochs=2", "attack.recipe.batch_size=8")


class Brightness(nn.Module):
    """A target whose embedding is the mean colour of both halves of the image: no two images alike."""

    width = 6

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return nn.functional.adaptive_avg_pool2d(x, (2, 1)).flatten(1)


def oracle_for(ctx: Context, queries: int, defense: Any = None, pool: Images = POOL) -> Oracle:
    return in_front_of(Victim("brightness", Brightness(), "embeddings"), pool, ctx, queries, defense)


def steal(folder: Path, queries: int, *overrides: str, defense: Any = None) -> tuple[nn.Module, Oracle]:
    cfg = composed(*QUICK, *overrides)
    ctx = context(folder)
    attack, oracle = build.make(cfg.attack), oracle_for(ctx, queries, defense)
    attack.check(oracle.budget, POOL)
    return attack.run(oracle, POOL, AttackContext(build.make(cfg.thief), ctx)), oracle
