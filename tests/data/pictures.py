"""Random pictures, and an operation on each by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pictures(count: int, side: int = 12) -> Tensor:
    """Noise, a grey one, a black one, a white one, and flat colours where channels tie."""
    x = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    ties = [(0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.2, 0.7, 0.7), (0.3, 0.1, 0.3)]
    for image, flat in zip(x[1:], ties, strict=False):
        image[:] = torch.tensor(flat)[:, None, None]
    return x


def one_by_one(images: Tensor, apply: Callable[..., Tensor], values: Tensor) -> Tensor:
    return torch.stack([apply(image, float(value)) for image, value in zip(images, values, strict=True)])
