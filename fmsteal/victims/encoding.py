"""How images travel: as PNG, which is exact, or as JPEG, which is what a careless client sends."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fmsteal.base.errors import ConfigError

Pixels = npt.NDArray[np.uint8]
Encoding = Literal["png", "jpeg"]


@dataclass(frozen=True)
class ImageFormat:
    """How an image is encoded.

    Attributes:
        encoding: ``png`` or ``jpeg``.
        quality: of a JPEG, 1 to 100.
        size: side in pixels of the square that each image is resized to before it is sent; None sends it as stored.
    """

    encoding: Encoding = "png"
    quality: int = 90
    size: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"victim.quality is a JPEG's, from 1 to 100, not {self.quality}.")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"victim.size must be at least 1, not {self.size}.")

    @property
    def mime(self) -> str:
        """The content type."""
        return f"image/{self.encoding}"

    def fit(self, images: Tensor) -> Pixels:
        """The pixels that are sent, uint8 ``(n, 3, h, w)``, of images stored as uint8 or given as floats in [0, 1].

        Floats are rounded to 8 bits: an image file holds no more.
        """
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            floats = images.float() / 255 if images.dtype == torch.uint8 else images.float()
            size = (self.size, self.size)
            images = F.interpolate(floats, size=size, mode="bilinear", antialias=True).clamp(0, 1)
        if images.dtype != torch.uint8:
            images = (images * 255).round().to(torch.uint8)
        return np.ascontiguousarray(images.numpy())

    def encode(self, pixels: Pixels) -> bytes:
        """One image, uint8 ``(3, h, w)``, as a file."""
        out = io.BytesIO()
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        if self.encoding == "png":
            image.save(out, "PNG", compress_level=1)
        else:
            image.save(out, "JPEG", quality=self.quality)
        return out.getvalue()
