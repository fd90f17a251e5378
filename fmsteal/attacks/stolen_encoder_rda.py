"""StolenEncoder as later papers compare with it (Wu et al., ECCV 2024): mean squared errors, one augmented view."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.encoders import EncoderAttack, draw_several
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True, kw_only=True)
class StolenEncoderRDA(EncoderAttack):
    """Each image is asked about once; in every step the thief sees it, and one view of it.

    Attributes:
        views: random views of a batch of images.
        lam: weight of the view.

    The published code normalises only the view (by .5 and .5), not the image itself: a slip that is not repeated here,
    where the thief normalises both alike.
    """

    views: nn.Module
    lam: float = 20.0

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains by `rda_style_loss`."""
        return StolenEncoderRDAModule(net, self, recipe, seed)


class StolenEncoderRDAModule(StealModule):
    """Batches are ``(images, victim embeddings)``."""

    def __init__(self, net: nn.Module, attack: StolenEncoderRDA, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed)
        self.attack = attack

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch."""
        images, targets = batch
        (view,) = draw_several(self.attack.views, images, 1)
        return rda_style_loss(self.net(images), self.net(view)[None], targets, self.attack.lam), {}


def rda_style_loss(clean: Tensor, views: Tensor, targets: Tensor, lam: float = 20.0) -> Tensor:
    """``MSE(s(x), v) + lam * MSE(s(aug(x)), v)``, means over images and dimensions, with s and v normalised.

    The published baseline normalises both sides and has one view; for k views this takes the mean. A dimension's
    squared error is about 1/D of a distance, so gradients are far smaller than with the original's sums.

    Args:
        clean: ``(n, D)``, the thief's embeddings of the images as they are. Normalised here.
        views: ``(k, n, D)``, k >= 1, its embeddings of k views of each image. Normalised here.
        targets: ``(n, D)``, the victim's embeddings. Normalised here.
        lam: weight of the views.
    """
    v = F.normalize(targets, dim=-1)
    of_clean = (F.normalize(clean, dim=-1) - v).square().mean()
    of_views = (F.normalize(views, dim=-1) - v).square().mean()
    return of_clean + lam * of_views
