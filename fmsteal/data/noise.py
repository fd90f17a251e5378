"""The query set without any structure: every pixel drawn on its own."""

from __future__ import annotations

import numpy as np

from fmsteal.base.store import Store
from fmsteal.data.generated import load_generated
from fmsteal.data.images import Images, Pixels


def render(count: int, seed: int, size: int) -> Pixels:
    """``count`` images of uniform noise, uint8 ``(count, 3, size, size)``; a longer call starts with a shorter's."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def noise(store: Store, *, count: int = 10_000, size: int = 32, seed: int = 0) -> Images:
    """The query set: ``count`` images at ``size`` pixels, drawn once and kept."""
    return load_generated(store, "noise", render, count=count, size=size, seed=seed)
