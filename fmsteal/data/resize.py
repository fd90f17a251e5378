"""Converts small grey images to the stored form, the same way for every set that needs it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fmsteal.data.images import Pixels


def enlarge(grey: npt.NDArray[np.floating], size: int) -> Pixels:
    """Grey images in [0, 1], ``(N, h, w)``, to uint8 ``(N, 3, size, size)`` by bilinear interpolation."""
    images = torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32))[:, None]
    large = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False).clamp_(0, 1)
    return np.repeat((large * 255).round().to(torch.uint8).numpy(), 3, axis=1)
