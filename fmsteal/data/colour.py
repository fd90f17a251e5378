"""Random colours for whole batches: jitter, grey and solarise, each image with its own draw.

The functions are torchvision's (``transforms.v2.functional``, float images) with one factor per image instead of one
for all. Images are float ``(n, 3, H, W)`` in [0, 1], factors ``(n,)``; the result is a new tensor in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmsteal.data.draws import Sometimes, check_setting, draw_uniform

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class ColourJitter(Sometimes):
    """torchvision's ColorJitter, with each image's own factors and its own order of the four operations.

    Brightness, contrast and saturation factors are uniform in [max(0, 1-s), 1+s], the hue's shift
    (in turns) in [-s, s].

    Args:
        brightness, contrast, saturation: strengths s, at least 0.
        hue: strength in [0, 0.5].
        chance: share of the images that are jittered (SimCLR: 0.8).
    """

    settings = ("brightness", "contrast", "saturation", "hue")

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, chance: float = 0.8) -> None:
        super().__init__(chance)
        self.brightness = check_setting("brightness", brightness, 0, float("inf"))
        self.contrast = check_setting("contrast", contrast, 0, float("inf"))
        self.saturation = check_setting("saturation", saturation, 0, float("inf"))
        self.hue = check_setting("hue", hue, 0, 0.5)

    def change(self, images: Tensor) -> Tensor:
        """Jitter the images."""
        return apply_jitter(images, *self.draw(len(images), images.device))

    def draw(self, count: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Factors ``(count, 4)``: brightness, contrast, saturation, hue; and the order of their use, ``(count, 4)``."""
        ranges = [(max(0.0, 1 - s), 1 + s) for s in (self.brightness, self.contrast, self.saturation)]
        factors = [draw_uniform(count, low, high, device) for low, high in [*ranges, (-self.hue, self.hue)]]
        return torch.stack(factors, 1), torch.rand(count, 4, device=device).argsort(1)


class Grey(Sometimes):
    """Take the colour out of a share ``chance`` of the images."""

    def __init__(self, chance: float = 0.2) -> None:
        super().__init__(chance)

    def change(self, images: Tensor) -> Tensor:
        """Copy the images' luma into all channels."""
        return luma(images).expand(-1, 3, -1, -1)


class Solarise(Sometimes):
    """Invert values of at least ``threshold``, in a share ``chance`` of the images."""

    settings = ("threshold",)

    def __init__(self, chance: float = 0.1, threshold: float = 0.5) -> None:
        super().__init__(chance)
        self.threshold = check_setting("threshold", threshold, 0, 1)

    def change(self, images: Tensor) -> Tensor:
        """Solarise the images."""
        return solarise(images, self.threshold)


def apply_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """The four operations with factors ``(n, 4)``, each image in its own order ``(n, 4)`` of operation numbers."""
    x = images.clone()
    when = (order == HUE).nonzero()[:, 1]
    rest = order[order != HUE].view(-1, 3)  # each turn blends every image, with its own next operation of the three
    for turn in range(4):
        ids = (when == turn).nonzero()[:, 0]
        x[ids] = adjust_hue(x.index_select(0, ids), factors[ids, HUE])
        if turn < 3:
            which = rest[:, turn, None]
            x = _next_blend(x, factors.gather(1, which)[:, 0], which[:, 0])
    return x


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Interpolate between black (0) and the image (1), or beyond."""
    return (images * _each(factors)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Interpolate between the mean luma of the image (0) and the image (1), or beyond."""
    return _blend(images, luma(images).mean((-3, -2, -1), keepdim=True), _each(factors))


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Interpolate between the grey image (0) and the image (1), or beyond."""
    return _blend(images, luma(images), _each(factors))


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue of HSV by ``shifts`` full turns; saturation and value stay the same."""
    red, green, blue = images.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    span = torch.maximum(torch.maximum(red, green), blue).sub_(low)
    # In sixths of a turn a colour lies 1 + (green + blue - red - low) / span away from red, towards the larger of green
    # and blue: no comparison of channels, which would cost several times the arithmetic. Grey has no hue: any will do.
    away = (green + blue).sub_(red).sub_(low).div_(span.clamp(min=1e-12)).add_(1)
    sector = torch.copysign(away, green - blue).add_(6 * shifts.view(-1, 1, 1))
    sector.sub_(torch.floor(sector / 6), alpha=6)
    # Each channel is a trapezium over the six sectors, high around red's 0, green's 2 and blue's 4.
    shares = (sector - 3).abs_().sub_(1), (sector - 2).abs_().neg_().add_(2), (sector - 4).abs_().neg_().add_(2)
    return torch.stack([share.clamp_(0, 1).mul_(span).add_(low) for share in shares], 1)


def solarise(images: Tensor, threshold: float) -> Tensor:
    """Invert values of at least ``threshold``."""
    return torch.where(images >= threshold, 1 - images, images)


def luma(images: Tensor) -> Tensor:
    """The grey picture (ITU-R 601-2 as torchvision rounds it), ``(n, 1, H, W)``."""
    red, green, blue = images.split(1, 1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _next_blend(images: Tensor, factors: Tensor, which: Tensor) -> Tensor:
    """Apply the operation ``which (n,)`` (not hue): the three differ in what the image is blended with."""
    rest = 1 - factors
    grey = luma(images)
    mean = grey.mean((-3, -2, -1), keepdim=True) * _each(rest * (which == CONTRAST))
    other = grey.mul_(_each(rest * (which == SATURATION))).add_(mean)
    return torch.addcmul(other, images, _each(factors)).clamp_(0, 1)


def _blend(images: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    return torch.addcmul(other * (1 - factors), images, factors).clamp_(0, 1)


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
