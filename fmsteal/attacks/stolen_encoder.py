"""StolenEncoder (Liu et al., CCS 2022): ask once per image; the thief learns the same answer for augmented views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.encoders import EncoderAttack, draw_several
from fmsteal.base.errors import ConfigError
from fmsteal.identity.rules import Ignores
from fmsteal.training.recipe import Recipe, StealModule

Distance = Literal["l2", "l1", "cosine"]


@dataclass(frozen=True, kw_only=True)
class StolenEncoder(EncoderAttack):
    """Each image is asked about once; only the thief sees its augmented views.

    Attributes:
        views: random views of a batch of images.
        k: number of views of each image in a step; with 0 the second term of the loss is left out.
        lam: weight of the second term of the loss.
        distance: l2 | l1 | cosine, see `stolen_encoder_loss`.
    """

    ignores: ClassVar[Ignores] = {"views": {"k": 0}, "lam": {"k": 0}}

    views: nn.Module
    k: int = 1
    lam: float = 20.0
    distance: Distance = "l2"

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"attack.k must be 0 or more, not {self.k}.")

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains by `stolen_encoder_loss`."""
        return StolenEncoderModule(net, self, recipe, seed)


class StolenEncoderModule(StealModule):
    """Batches are ``(images, victim embeddings)``.

    As published, the images and each set of views go through the network in separate passes: BatchNorm sees one kind of
    image at a time.
    """

    def __init__(self, net: nn.Module, attack: StolenEncoder, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed)
        self.attack = attack

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch."""
        images, targets = batch
        clean = self.net(images)
        seen = draw_several(self.attack.views, images, self.attack.k)
        views = torch.stack([self.net(view) for view in seen]) if seen else None
        return stolen_encoder_loss(clean, views, targets, self.attack.lam, self.attack.distance), {}


def stolen_encoder_loss(
    clean: Tensor, views: Tensor | None, targets: Tensor, lam: float = 20.0, distance: Distance = "l2"
) -> Tensor:
    """``d(s(x), v) + (lam / k) sum_{j <= k} d(s(aug_j(x)), v)``, with s and v normalised as in the code.

    d is a sum over the batch for l2 (the norm, not its square) and l1, but for cosine the batch mean of 1 - cos, where
    the code has -cos.

    Args:
        clean: ``(n, D)``, the thief's embeddings of the images as they are. Normalised here.
        views: ``(k, n, D)``, its embeddings of k views of each image; None (or k = 0) leaves out the second term.
        targets: ``(n, D)``, the victim's embeddings. Normalised here.
        lam: lambda, the weight of the views.
        distance: l2 | l1 | cosine.

    Raises:
        ConfigError: ``distance`` is none of these.
    """
    if views is None or not len(views):
        return distances(clean[None], targets, distance)[0]
    first, *_ = each = distances(torch.cat([clean[None], views]), targets, distance)
    return first + lam * each[1:].mean()


def distances(stack: Tensor, targets: Tensor, distance: Distance = "l2") -> Tensor:
    """The distance of each of several stacked batches to the targets, ``(views,)``; see ``stolen_encoder_loss``.

    Args:
        stack: ``(views, n, D)``. Normalised here.
        targets: ``(n, D)``. Normalised here.
        distance: l2 and l1 are summed over n; cosine is the mean of 1 - cos.

    Raises:
        ConfigError: ``distance`` is none of these.
    """
    s, v = F.normalize(stack, dim=-1), F.normalize(targets, dim=-1)
    match distance:
        case "l2":
            return torch.linalg.vector_norm(s - v, dim=-1).sum(dim=-1)  # its gradient is 0 where s = v
        case "l1":
            return (s - v).abs().sum(dim=(-2, -1))
        case "cosine":
            return (1 - (s * v).sum(dim=-1)).mean(dim=-1)
    raise ConfigError(f"attack.distance is l2, l1 or cosine, not '{distance}'.")
