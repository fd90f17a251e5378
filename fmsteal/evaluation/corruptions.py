"""Four of the common corruptions of Hendrycks & Dietterich (ICLR 2019), as batched tensor code.

Each function takes uint8 images ``(n, 3, H, W)`` and its strength, and gives uint8 images of the same shape. The
strengths are those of the authors' scripts (github.com/hendrycks/robustness, ImageNet-C/create_c): `make_cifar_c.py`
for images of at most 64 pixels, `make_imagenet_c.py` above. Two things differ: values are rounded where the scripts
truncate them (half a grey level), and nothing is stored as a JPEG of quality 85 afterwards, as ImageNet-C was.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Pixels

CIFAR = {  # severities 1 to 5
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation, for pixels in [0, 1]
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),  # standard deviation, in pixels
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # factor
    "jpeg": (80, 65, 58, 50, 40),  # quality
}
IMAGENET = {
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "blur": (1, 2, 3, 4, 6),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "jpeg": (25, 18, 15, 10, 7),
}
NAMES = tuple(CIFAR)
SMALL = 64  # side in pixels of the largest image that gets CIFAR's strengths
CHUNK = 64  # images held as floats at a time


def corrupt_images(pixels: Pixels, name: str, severity: int, chunk: int = CHUNK) -> Pixels:
    """Images ``(N, 3, H, W)`` under the corruption ``name``; the same in every job, whatever ``chunk`` is."""
    small = max(pixels.shape[-2:]) <= SMALL
    strength = (CIFAR if small else IMAGENET)[name][severity - 1]
    corrupt = _functions(np.random.default_rng(derive_seed(name, severity)))[name]
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), chunk):
        part = slice(start, start + chunk)
        out[part] = corrupt(torch.from_numpy(np.array(pixels[part])), strength).numpy()
    return out


def noise(images: Tensor, std: float, generator: np.random.Generator) -> Tensor:
    """Gaussian noise of ``std`` (for pixels in [0, 1]), drawn image after image, whatever the batches."""
    drawn = torch.from_numpy(generator.standard_normal(images.shape))
    return _to_uint8(images + 255 * std * drawn)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, cut off at 4 sigma, the border pixels repeated outwards (scikit-image's defaults).

    Both passes are products with a matrix: the cost does not grow with sigma, and images may be small.
    """
    height, width = images.shape[-2:]
    return _to_uint8(_blurring(height, sigma) @ images.double() @ _blurring(width, sigma).T)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Scale each channel's distance from its mean in the image by ``factor``."""
    means = images.double().mean((2, 3), keepdim=True)
    return _to_uint8((images - means) * factor + means)


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Compress to JPEG and decompress."""
    return vision.jpeg(images, int(quality))


def _functions(generator: np.random.Generator) -> dict[str, Callable[[Tensor, float], Tensor]]:
    return {
        "noise": lambda images, std: noise(images, std, generator),
        "blur": blur,
        "contrast": contrast,
        "jpeg": jpeg,
    }


def _blurring(size: int, sigma: float) -> Tensor:
    """The matrix ``(size, size)`` that blurs a column of pixels."""
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = (-(offsets.double() ** 2) / (2 * sigma**2)).exp()
    seen = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, seen, (weights / weights.sum()).expand(size, -1))


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
