"""Random crops and mirror images for whole batches, each image with its own draw and at its own size; and resizing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.data.draws import Sometimes, check_setting, draw_uniform

_ATTEMPTS = 10  # torchvision gives up after this many boxes that do not fit


class ResizedCrop(nn.Module):
    """torchvision's RandomResizedCrop back to the images' own size, bilinear.

    Args:
        smallest: least share of the image's area; the share is uniform in [smallest, largest).
        stretch: width / height is log-uniform in [1 / stretch, stretch); 1: every crop is square.
        largest: largest share of the area; if equal to ``smallest``, every crop has that share, up to rounding of its
            sides to whole pixels.
    """

    def __init__(self, smallest: float = 0.08, stretch: float = 4 / 3, largest: float = 1.0) -> None:
        super().__init__()
        self.smallest = check_setting("smallest", smallest, 1e-4, 1)
        self.stretch = check_setting("stretch", stretch, 1, 100)
        self.largest = check_setting("largest", largest, self.smallest, 1)

    def identity(self) -> dict[str, float]:
        """The settings that decide the crop; the largest share is listed only if it is not the whole image."""
        given = {"smallest": self.smallest, "stretch": self.stretch}
        return given if self.largest == 1 else {**given, "largest": self.largest}

    def forward(self, images: Tensor) -> Tensor:
        """Crop and resize float images ``(n, 3, H, W)``."""
        height, width = images.shape[-2:]
        return crop_and_resize(images, self.boxes(len(images), height, width, images.device))

    def boxes(self, count: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """Random boxes ``(count, 4)``: top, left, height, width in whole pixels."""
        drawn = count * _ATTEMPTS
        area = draw_uniform(drawn, self.smallest, self.largest, device) * height * width
        ratio = draw_uniform(drawn, -math.log(self.stretch), math.log(self.stretch), device).exp()
        w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = ((w >= 1) & (w <= width) & (h >= 1) & (h <= height)).view(count, _ATTEMPTS)
        first = torch.arange(count, device=device) * _ATTEMPTS + fits.int().argmax(1)
        w, h, found = w[first], h[first], fits.any(1)
        # Where none fits: the largest centred box with an allowed ratio.
        middle_w, middle_h = min(width, round(height * self.stretch)), min(height, round(width * self.stretch))
        w, h = torch.where(found, w, middle_w), torch.where(found, h, middle_h)
        top, left = (
            torch.where(found, (torch.rand(count, device=device) * (room + 1)).floor(), (room / 2).floor())
            for room in (height - h, width - w)
        )
        return torch.stack([top, left, h, w], 1)


class Resize(nn.Module):
    """Resize images to ``size`` pixels as a backbone does (bilinear, antialiased); later steps work at that size.

    For a recipe's augmentation: a rotation blurs a large image less than a small one that is enlarged afterwards.
    """

    whole = True  # for `Views`: the output has another shape than the input

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = int(check_setting("size", size, 1, float("inf")))

    def identity(self) -> dict[str, int]:
        """The settings that decide the step."""
        return {"size": self.size}

    def forward(self, images: Tensor) -> Tensor:
        """Resize float images ``(n, 3, H, W)``; ``(n, 3, size, size)``."""
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)


class PadCrop(nn.Module):
    """Shift each image by up to ``padding`` pixels in each direction, black outside (RandomCrop(size, padding))."""

    def __init__(self, padding: int = 4) -> None:
        super().__init__()
        self.padding = int(check_setting("padding", padding, 0, float("inf")))

    def identity(self) -> dict[str, int]:
        """The settings that decide the crop."""
        return {"padding": self.padding}

    def forward(self, images: Tensor) -> Tensor:
        """Shift float images ``(n, 3, H, W)``."""
        return pad_crop(
            images, torch.randint(2 * self.padding + 1, (len(images), 2), device=images.device), self.padding
        )


class Flip(Sometimes):
    """Mirror a share ``chance`` of the images, left to right."""

    def __init__(self, chance: float = 0.5) -> None:
        super().__init__(chance)

    def change(self, images: Tensor) -> Tensor:
        """Mirror the images."""
        return images.flip(-1)


def crop_and_resize(images: Tensor, boxes: Tensor) -> Tensor:
    """The boxes ``(n, 4)`` (top, left, height, width in pixels) of images ``(n, 3, H, W)``, resized to ``(H, W)``.

    Bilinear, as if the box had been cut out first: no pixel outside it is used. A box is no larger than its image,
    so smoothing before the resize (torchvision's ``antialias``) would change nothing.
    """
    height, width = images.shape[-2:]
    top, left, h, w = boxes.to(images).split(1, 1)
    rows, columns = _sources(top, h, height), _sources(left, w, width)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def pad_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Images ``(n, 3, H, W)`` padded with zeros and cut at ``offsets (n, 2)``: top, left in [0, 2 padding]."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [padding] * 4)
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    picked = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
    return padded.flatten(2).gather(2, picked[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _sources(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the pixels of an axis come from, ``(n, size)``, in `grid_sample`'s coordinates (-1 and 1 are the edges)."""
    pixels = (torch.arange(size, device=start.device) + 0.5) * (length / size) - 0.5
    inside = torch.minimum(pixels.clamp(min=0), length - 1) + start
    return (2 * inside + 1) / size - 1
