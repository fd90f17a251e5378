"""Random Gaussian blur for whole batches, each image with its own draw: SimCLR's, and Pillow's."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.data.draws import Sometimes, check_setting, draw_uniform

Kernel = Literal["simclr", "pillow"]


class Blur(Sometimes):
    """Gaussian blur of a share ``chance`` of the images, sigma (pixels) uniform in [sigma_min, sigma_max).

    Args:
        kernel: ``simclr``: a tenth of the image's height, made odd: 3 taps at 32 pixels, 7 at 64, 23 at 224.
            ``pillow``: as wide as sigma requires, whatever the image's size: see `box_blur`.
    """

    settings = ("sigma_min", "sigma_max")

    def __init__(
        self, chance: float = 0.5, sigma_min: float = 0.1, sigma_max: float = 2.0, kernel: Kernel = "simclr"
    ) -> None:
        super().__init__(chance)
        if kernel not in get_args(Kernel):
            raise ConfigError(f"kernel={kernel} must be one of {', '.join(get_args(Kernel))}.")
        self.kernel = kernel
        self.sigma_max = check_setting("sigma_max", sigma_max, 1e-3, float("inf"))
        self.sigma_min = check_setting("sigma_min", sigma_min, 1e-3, sigma_max)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the step; the kernel is listed only if it is not SimCLR's."""
        return super().identity() if self.kernel == "simclr" else {**super().identity(), "kernel": self.kernel}

    def change(self, images: Tensor) -> Tensor:
        """Blur the images."""
        sigmas = draw_uniform(len(images), self.sigma_min, self.sigma_max, images.device)
        if self.kernel == "pillow":
            return box_blur(images, sigmas)
        return blur(images, sigmas, radius=images.shape[-2] // 20)


def blur(images: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Gaussian blur of ``2 radius + 1`` taps per axis, weights summing to 1, the image mirrored at its edges."""
    taps = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.softmax(-0.5 * (taps / sigmas[:, None]) ** 2, 1)
    x = F.pad(images, [radius] * 4, mode="reflect")
    for axis in (-1, -2):
        x = _filtered(x, weights, axis)
    return x


def box_blur(images: Tensor, sigmas: Tensor, passes: int = 3) -> Tensor:
    """Pillow's GaussianBlur: a box of fractional width, applied three times per axis, the edge pixels repeated outside.

    A box of radius r = l + a (a the fraction) has 2l + 1 taps of weight 1 and two of weight a. Gwosdek et al. (SSVM
    2011) choose r so that the passes together have the variance sigma^2. Pillow rounds to 8 bits after each of the
    six passes; this does not.

    Args:
        images: float ``(n, 3, H, W)``.
        sigmas: sigmas in pixels, ``(n,)``.
        passes: number of passes per axis.
    """
    variance = sigmas.double() ** 2 / passes
    whole = (((12 * variance + 1).sqrt() - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    radius = (whole + part).to(images)
    reach = int(whole.max()) + 1 if len(sigmas) else 1
    taps = torch.arange(-reach, reach + 1, device=images.device)
    weights = (radius[:, None] + 1 - taps.abs()).clamp(0, 1) / (2 * radius[:, None] + 1)
    x = images
    for axis, sides in ((-1, [reach, reach, 0, 0]), (-2, [0, 0, reach, reach])):
        for _ in range(passes):
            x = _filtered(F.pad(x, sides, mode="replicate"), weights, axis)
    return x


def _filtered(padded: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Filter each image along an axis with its own weights ``(n, taps)``; the axis gets shorter by ``taps - 1``."""
    length = padded.shape[axis] - weights.shape[1] + 1
    out = torch.zeros_like(padded.narrow(axis, 0, length))
    for at, weight in enumerate(weights.T):
        out.addcmul_(padded.narrow(axis, at, length), weight.view(-1, 1, 1, 1))
    return out
