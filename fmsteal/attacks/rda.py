"""RDA (Wu et al., ECCV 2024): thieves learn from sample-wise prototypes, by a contrastive and an alignment loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.asked_views import ask_views
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.cont_steal_two_view import one_sided_loss
from fmsteal.attacks.encoders import EncoderAttack, draw_several
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.data.random_views import draw_views
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.recipe import Recipe, StealModule

#: Lower bound of (cos + 1) and ||s - p||^2 in L_align: the logarithm of their ratio is unbounded as either nears 0.
FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class RDA(EncoderAttack):
    """Asks about several views of each image, once, and trains on the mean of the answers.

    Attributes:
        views: random views of a batch of images, shown to the thief.
        prototype_views: random views that the API is asked about.
        asks_per_image: number of views of each image that the API is asked about; divides the budget.
        patches: number of views of each image shown to the thief in a step.
        temperature: temperature of the contrastive loss.
        alpha: weight of the contrastive loss.
        beta: weight of the alignment loss.

    The published code tests every epoch's thief by kNN on the downstream test set and keeps the best; here the last
    epoch's thief is kept. The code also normalises the thief's input by .5 and .5 (``thief.backbone.normalise=half``),
    and rounds to 8 bits in every step of a view; here the API's views are rounded once, at the end.
    """

    version: ClassVar[int] = 2  # all views in one pass
    fewest: ClassVar[int] = 2

    views: nn.Module
    prototype_views: nn.Module
    asks_per_image: int = 10
    patches: int = 5
    temperature: float = 0.07
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.asks_per_image < 1 or self.patches < 1:
            raise ConfigError(
                "attack.asks_per_image and attack.patches must be at least 1, not "
                f"{self.asks_per_image} and {self.patches}."
            )

    @property
    def asks(self) -> int:
        """Questions about each image."""
        return self.asks_per_image

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """The images and their prototypes."""
        views = (draw_views(self.prototype_views, pool, ids, "rda", ctx.seed, n) for n in range(self.asks_per_image))
        answers = [ask_views(oracle, each) for each in views]
        return self.loader(pool, ids, prototypes(torch.stack(answers)), ctx)

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains by `rda_loss`."""
        return RDAModule(net, self, recipe, seed)


class RDAModule(StealModule):
    """Batches are ``(images, prototypes)``; all views go through the network in one pass, as in the published code.

    BatchNorm's statistics are thus over all views.
    """

    def __init__(self, net: nn.Module, attack: RDA, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed)
        self.attack = attack

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its two terms."""
        images, targets = batch
        seen = torch.cat(draw_several(self.attack.views, images, self.attack.patches))
        embedded = self.net(seen).unflatten(0, (self.attack.patches, len(images)))
        return rda_loss(embedded, targets, self.attack.temperature, self.attack.alpha, self.attack.beta)


def prototypes(views_of_each: Tensor) -> Tensor:
    """One target for each image: the mean of its normalised victim embeddings, not normalised again.

    Args:
        views_of_each: ``(r, n, D)``, the victim's answers to r views of n images.

    Returns:
        ``(n, D)``, rows of length at most 1; shorter if the victim's answers to an image's views differ.
    """
    return F.normalize(views_of_each, dim=-1).mean(dim=0)


def rda_loss(
    views: Tensor, prototypes: Tensor, temperature: float = 0.07, alpha: float = 1.0, beta: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """``alpha * L_con + beta * L_align``, the mean over images and views.

    With s the normalised thief embedding and p the prototype, not normalised, as in the published code::

        L_con   = -log(e^{s_i.p_i/t} / sum_{j != i} (e^{s_i.p_j/t} + e^{s_i.s_j/t}))
        L_align = -log((cos(s_i, p_i) + 1) / ||s_i - p_i||^2)

    Negatives come from the same view. L_align is unbounded below as published; here numerator and denominator are at
    least ``FLOOR``, so it is at least log(FLOOR / 2), about -14.5, and has no gradient where s is within 0.001 of p.

    Args:
        views: ``(m, n, D)``, n >= 2, the thief's embeddings of m views of n images. Normalised here.
        prototypes: ``(n, D)``, see ``prototypes``.
        temperature: t, divides the products.
        alpha: weight of L_con.
        beta: weight of L_align: 1, or 20 against CLIP.

    Returns:
        The loss, and its unweighted, detached terms ``contrastive`` and ``align``.

    Raises:
        AttackError: n is 1, which leaves L_con without negatives.
    """
    s = F.normalize(views, dim=-1)
    contrastive = one_sided_loss(s, prototypes, temperature)
    agree = (F.cosine_similarity(s, prototypes, dim=-1) + 1).clamp_min(FLOOR)
    apart = (s - prototypes).square().sum(dim=-1).clamp_min(FLOOR)
    align = (apart.log() - agree.log()).mean()
    return alpha * contrastive + beta * align, {"contrastive": contrastive.detach(), "align": align.detach()}
