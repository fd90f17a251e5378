"""Cont-Steal's equation (Sha et al., CVPR 2023) as RDA's code re-implements it: one-sided, the positive left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.cont_steal import ContSteal
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.data.images import Ids, Images, Pixels
from fmsteal.data.random_views import draw_views
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe, StealModule

Anchor = Literal["victim", "thief"]


@dataclass(frozen=True, kw_only=True)
class ContStealTwoView(ContSteal):
    """As `ContSteal`, but the thief is shown a different view from the one that the API is asked about.

    Attributes:
        anchor: the side whose embedding is compared with the other side's embeddings of other images, see
            `two_view_loss`.
    """

    version: ClassVar[int] = 2  # the victim's embeddings are the anchors

    temperature: float = 0.07
    anchor: Anchor = "victim"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchor not in get_args(Anchor):
            raise ConfigError(f"attack.anchor must be one of {', '.join(get_args(Anchor))}, not {self.anchor}.")

    def pair(self, pool: Images, ids: Ids, seed: int, epoch: int) -> tuple[Pixels, Pixels]:
        """The views that the thief is shown, and those that the API is asked about."""
        shown, asked = (draw_views(self.views, pool, ids, "cont_steal", seed, epoch, side) for side in ("thief", "api"))
        return shown, asked

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains by `two_view_loss`."""
        return SupervisedModule(
            net, partial(two_view_loss, temperature=self.temperature, anchor=self.anchor), recipe, seed
        )


def two_view_loss(thief: Tensor, victim: Tensor, temperature: float = 0.07, anchor: Anchor = "victim") -> Tensor:
    """Mean of ``-log(e^{s_i.v_i/t} / sum_{j != i} (e^{c_ij/t} + e^{s_i.s_j/t}))``, s and v normalised.

    The cross-side pairs c are ``v_i.s_j`` with the victim's embedding as the anchor, as in the baseline that the code
    of RDA (Wu et al., ECCV 2024) compares with, and ``s_i.v_j`` with the thief's, as in that code's own loss to its
    prototypes. The positive is not in the denominator, so the loss may be negative. Cont-Steal's own code differs, see
    ``cont_steal``.

    Args:
        thief: ``(n, D)``, n >= 2, embeddings of one view of each image. Normalised here.
        victim: ``(n, D)``, embeddings of another view. Normalised here.
        temperature: divides the cosines.
        anchor: victim | thief.

    Raises:
        AttackError: n is 1: there are no negatives, and the denominator is empty.
    """
    s, v = F.normalize(thief, dim=1), F.normalize(victim, dim=1)
    if anchor == "thief":
        return one_sided_loss(s, v, temperature)
    return contrast_with_others(v @ s.T / temperature, s @ s.T / temperature)


def one_sided_loss(anchors: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The loss above with the thief's anchors, without normalising: ``(..., n, D)`` against ``(n, D)``.

    Raises:
        AttackError: n is 1.
    """
    return contrast_with_others(anchors @ targets.T / temperature, anchors @ anchors.mT / temperature)


def contrast_with_others(across: Tensor, within: Tensor) -> Tensor:
    """Mean of ``log sum_{j != i} (e^{across_ij} + e^{within_ij}) - across_ii``; both are logits ``(..., n, n)``.

    Raises:
        AttackError: n is 1.
    """
    count = across.shape[-1]
    if count < 2:
        raise AttackError(
            "A contrastive loss without its positive in the denominator needs two or more images in a batch, and got "
            "one. Ask for more images than one (budget), or set a larger attack.recipe.batch_size."
        )
    positive = across.diagonal(dim1=-2, dim2=-1)
    same = torch.eye(count, dtype=torch.bool, device=across.device).repeat(1, 2)
    negatives = torch.cat([across, within], dim=-1).masked_fill(same, float("-inf"))
    return (negatives.logsumexp(dim=-1) - positive).mean()
