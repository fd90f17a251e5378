"""A secret direction of an API's owner: answers are shifted along it, and so are models trained on them."""

from __future__ import annotations

import torch
from torch import Tensor

from fmsteal.base.seeds import derive_seed


def draw_direction(width: int, seed: int) -> Tensor:
    """A random unit vector, float64 ``(width,)``, always the same one for the same seed."""
    random = torch.Generator().manual_seed(derive_seed("direction", width, seed))
    drawn = torch.randn(width, generator=random, dtype=torch.float64)
    return drawn / drawn.norm()
