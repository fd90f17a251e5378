"""The baseline for all thefts of encoders: pre-train the thief on the same images, and ask nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.encoders import EncoderAttack
from fmsteal.attacks.selection import select
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.simclr import Projected, SimCLRModule


@dataclass(frozen=True, kw_only=True)
class Pretrain(EncoderAttack):
    """SimCLR on as many pool images as the budget has queries; no query is made.

    The encoder is as wide as its own features.

    Attributes:
        views: random views of a batch of images.
        temperature: temperature of NT-Xent.
        projection: width of the projections that are compared.
    """

    fewest: ClassVar[int] = 2

    views: nn.Module
    temperature: float = 0.5
    projection: int = 128

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Pre-train; returns the encoder: raw images in, embeddings ``(n, d)`` of its own width out."""
        ids = select(self.selection, pool, self.images(oracle.budget, pool), ctx)
        encoder = ctx.encoder()
        with seed_block("thief", "projection", ctx.seed):
            net = Projected(encoder.backbone, self.projection)
        loader = self.loader(pool, ids, torch.zeros(len(ids)), ctx)  # there are no targets
        recipe, epochs = self.recipe.for_steps(len(loader)), derive_seed("thief", "epochs", ctx.seed)
        ctx.train(SimCLRModule(net, self.views, self.temperature, recipe, epochs), loader)
        encoder.aligned = False
        return encoder.cpu().eval()
