"""A defense's stand-in for the thief: a small untrained network, whose gradients the defense turns.

Published codes use a thief of the attacker's size (MAD untrained, GRAD^2 half-way through training). What
matters for an answer is how its rows of gradients lie relative to each other; this network is small, so that a defense
costs less than its victim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.seeds import seed_block

SIDE = 32  # pixels, to which images are resized
AT_ONCE = 64  # images per forward pass, always: a result must not depend on how many other images there are


class Surrogate(nn.Module):
    """Raw images in (uint8, or float in [0, 1]), ``log q`` out, float32 ``(n, K)``; never trained."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        with seed_block("defense", "surrogate", seed):
            self.trunk = nn.Sequential(
                nn.Conv2d(3, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            self.head = nn.Linear(64, classes)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities of a batch of images."""
        pixels = images.float() if images.is_floating_point() else images.float() / 255
        if pixels.shape[2:] != (SIDE, SIDE):
            pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return self.head(self.trunk(2 * pixels - 1)).log_softmax(1)


def apply_in_parts(of: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """``of`` applied to images ``(n, ...)``, `AT_ONCE` at a time, the last part padded: ``(n, K)`` in float64."""
    found = []
    for part in images.split(AT_ONCE):
        short = AT_ONCE - len(part)
        filled = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
        found.append(of(filled)[: len(part)].double())
    return torch.cat(found)
