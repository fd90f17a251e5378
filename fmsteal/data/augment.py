"""Augmentation of whole batches, each image with its own random draw."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augment(Protocol):
    """A recipe's augmentation: from float images ``(n, 3, H, W)`` in [0, 1] to the same, each with its own draw.

    Random numbers come from torch's global generator. Each step in `fmsteal.data` is an augmentation (`RandomAffine`,
    `fmsteal.data.crops.ResizedCrop`, `fmsteal.data.randaugment.RandAugment`), and so is a sequence of steps
    (`fmsteal.data.random_views.Views`).
    """

    def identity(self) -> Any:
        """The settings that decide the augmentation."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Augment a batch."""
        ...


def apply_augment(augment: Augment | None, images: Tensor) -> Tensor:
    """A batch of uint8 or [0, 1] float images as float in [0, 1]; ``augment``, if set, runs without a gradient."""
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    if augment is None:
        return x
    with torch.no_grad():
        return augment(x)


def describe(augment: Augment | None) -> Any:
    """The settings that decide an augmentation, with its class unless that is `RandomAffine`."""
    if augment is None or isinstance(augment, RandomAffine):
        return None if augment is None else augment.identity()
    return {"class": type(augment).__name__, "settings": augment.identity()}


def changes_nothing(augment: Augment | None) -> bool:
    """Whether an augmentation does nothing: it is None, or a `RandomAffine` with every setting at zero."""
    return augment is None or (isinstance(augment, RandomAffine) and not any(augment.identity().values()))


class RandomAffine(nn.Module):
    """Shift, rotate, scale and mirror each image at random, in a single resampling, with zeros outside the image.

    Args:
        shift: largest shift as a share of the image's side.
        rotate: largest rotation in degrees, either way.
        scale: largest relative change of size, either way.
        flip: probability that an image is mirrored horizontally.
    """

    def __init__(self, shift: float = 0.0, rotate: float = 0.0, scale: float = 0.0, flip: float = 0.0) -> None:
        super().__init__()
        self.shift, self.rotate, self.scale, self.flip = shift, math.radians(rotate), scale, flip

    def identity(self) -> dict[str, float]:
        """The settings that decide the augmentation."""
        return {"shift": self.shift, "rotate": self.rotate, "scale": self.scale, "flip": self.flip}

    def forward(self, images: Tensor) -> Tensor:
        """Augment uint8 or [0, 1] float images ``(n, 3, H, W)``; returns float in [0, 1]."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        if not (self.shift or self.rotate or self.scale):
            return torch.where(self._mirrored(len(x), x.device).view(-1, 1, 1, 1), x.flip(-1), x) if self.flip else x
        return self.move(x, self.matrices(len(x), x.device))

    @staticmethod
    def move(images: Tensor, matrices: Tensor) -> Tensor:
        """Apply affine maps ``(n, 2, 3)`` to uint8 or [0, 1] float images ``(n, 3, H, W)``; returns float in [0, 1]."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def matrices(self, count: int, device: torch.device | None = None) -> Tensor:
        """Random affine maps from output to input coordinates, ``(count, 2, 3)``."""
        angle, size, dx, dy = (
            limit * (2 * torch.rand(count, device=device) - 1)
            for limit in (self.rotate, self.scale, 2 * self.shift, 2 * self.shift)
        )
        mirror = 1 - 2 * self._mirrored(count, device).float()
        cos, sin = angle.cos() / (1 + size), angle.sin() / (1 + size)
        return torch.stack([torch.stack([mirror * cos, -sin, dx], 1), torch.stack([mirror * sin, cos, dy], 1)], 1)

    def _mirrored(self, count: int, device: torch.device | None) -> Tensor:
        return torch.rand(count, device=device) < self.flip
