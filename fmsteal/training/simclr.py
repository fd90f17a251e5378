"""SimCLR (Chen et al., ICML 2020): the two views of an image must find each other among all views of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fmsteal.networks.backbones import Backbone
from fmsteal.training.contrastive import nt_xent
from fmsteal.training.recipe import Recipe, StealModule


class Projected(nn.Module):
    """An encoder and SimCLR's projection head, which is dropped after pre-training.

    Images in, ``(n, width)`` out; the head is d-d-width with a ReLU (section 2.1).
    """

    def __init__(self, backbone: Backbone, width: int = 128) -> None:
        super().__init__()
        self.backbone = backbone
        d = backbone.num_features
        self.head = nn.Sequential(nn.Linear(d, d), nn.ReLU(inplace=True), nn.Linear(d, width))

    def forward(self, images: Tensor) -> Tensor:
        """Projections of a batch of images."""
        return self.head(self.backbone(images))


class SimCLRModule(StealModule):
    """Pre-trains without labels; both views go through the network in one pass, as one batch to its BatchNorm.

    On several devices an image's negatives are those of its own device's part of the batch.
    """

    def __init__(self, net: nn.Module, views: nn.Module, temperature: float, recipe: Recipe, seed: int) -> None:
        """Train ``net`` (images to projections) on views drawn by ``views`` (images to float images, one for each)."""
        super().__init__(net, recipe, seed)
        self.views = views
        self.temperature = temperature

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of two views of each image; a batch's targets are ignored."""
        images: Tensor = batch[0]
        with torch.no_grad():
            pair = self.views(torch.cat([images, images]))
        one, other = self.net(pair).chunk(2)
        return nt_xent(one, other, self.temperature), {}
