"""Attacks of another package whose thieves are models of their own, not made by the context."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Oracle


class Own(nn.Module):
    """Logits that are linear in the mean colours of an image's 16 parts."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1) @ self.weights


class Stubborn(Own):
    """The same, in a way that `torch.export` cannot follow."""

    def forward(self, images: Tensor) -> Tensor:
        rows = [super(Stubborn, self).forward(image[None]) for image in images.numpy().copy().tolist() and images]
        return torch.cat(rows)


class Ridge(Knockoff):
    """Fits a linear thief to the answers in closed form."""

    kind: type[Own] = Own

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        ids = self.selection(len(pool), oracle.budget.queries, ctx.seed)
        answers = oracle.ask(ids).double().clamp(min=1e-6).log()
        images = torch.from_numpy(pool.pixels[ids].copy()).float() / 255
        x = nn.functional.adaptive_avg_pool2d(images, 4).flatten(1).double()
        weights = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1]), x.T @ (answers - answers.mean(1, True)))
        return self.kind(weights.float())


class StubbornRidge(Ridge):
    """The same with a thief that no file can hold."""

    kind = Stubborn


class Moody(StubbornRidge):
    """Asks about one more image, another one each time."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        oracle.ask_images(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(oracle.used)))
        oracle.ask(np.arange(9))
        thief = self.kind(torch.zeros(48, oracle.width))
        nn.init.normal_(thief.weights)
        return thief
