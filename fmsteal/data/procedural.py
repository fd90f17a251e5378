"""Procedural images that show nothing: dead leaves, coloured 1/f noise, and mixtures of the two."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.store import Store
from fmsteal.data.generated import load_generated
from fmsteal.data.images import Images, Pixels

CHUNK = 500  # images drawn together; each chunk has its own random stream
LEAVES = 60  # shapes painted over one another in each image
RADIUS = (0.12, 1.2)  # of a leaf, in half image sides
RADIUS_POWER = 2.2  # density of radii falls as r to the minus this
ELONGATION = (0.5, 1.0)  # shorter over longer axis
GRADIENT = 0.25  # largest colour change across a leaf's radius
NOISE_POWER = (0.5, 2.0)  # amplitude falls as frequency to the minus this
NOISE_CONTRAST = (0.1, 0.3)  # standard deviation of the noise's colours
MIX_SHARES = (0.4, 0.3, 0.3)  # leaves alone, noise alone, noise laid over leaves
KINDS = 3  # disc, rectangle, triangle


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape)).float()


def _radii(rng: np.random.Generator, count: int) -> Tensor:
    """Radii of density r**-RADIUS_POWER between RADIUS's bounds, by inversion."""
    high, low = (bound ** (1 - RADIUS_POWER) for bound in RADIUS)
    return _uniform(rng, low, high, count) ** (1 / (1 - RADIUS_POWER))


def _leaves(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Discs, rectangles and triangles over one another, with colour gradients; (count, 3, size, size)."""
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    image = _uniform(rng, 0, 1, count, 3, 1, 1).repeat(1, 1, size, size)
    for _ in range(LEAVES):
        radius, stretch, angle = (
            _radii(rng, count),
            _uniform(rng, *ELONGATION, count),
            _uniform(rng, 0, 2 * np.pi, count),
        )
        across, along = (axis[None] - _uniform(rng, -1, 1, count, 1) for _ in range(2))
        across, along = across[:, None, :], along[:, :, None]
        cos, sin, radius, stretch = (v[:, None, None] for v in (angle.cos(), angle.sin(), radius, stretch))
        u, v = (across * cos + along * sin) / radius, (along * cos - across * sin) / (radius * stretch)
        disc, box = u * u + v * v, torch.maximum(u.abs(), v.abs())
        triangle = torch.maximum(-2 * v, v + np.sqrt(3) * u.abs())
        kind = torch.from_numpy(rng.integers(KINDS, size=(count, 1, 1)))
        inside = torch.where(kind == 0, disc, torch.where(kind == 1, box, triangle)) < 1
        slope = _uniform(rng, -GRADIENT, GRADIENT, count, 3, 1, 1)
        colour = _uniform(rng, 0, 1, count, 3, 1, 1) + slope * u[:, None]
        image = torch.where(inside[:, None], colour, image)
    return image.clamp(0, 1)


def _noise(rng: np.random.Generator, count: int, size: int) -> Tensor:
    """Noise of a random 1/f power, its channels randomly mixed; zero mean, (count, 3, size, size)."""
    white = torch.from_numpy(rng.standard_normal((count, 3, size, size), dtype=np.float32))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]) * size
    gain = frequency.clamp(min=1) ** -_uniform(rng, *NOISE_POWER, count, 1, 1, 1)
    gain[..., 0, 0] = 0
    grey = torch.fft.irfft2(torch.fft.rfft2(white) * gain, s=(size, size))
    grey = grey / (grey.std((1, 2, 3), keepdim=True) + 1e-9)
    mixing = torch.from_numpy(rng.standard_normal((count, 3, 3), dtype=np.float32))
    mixing = mixing / mixing.norm(dim=2, keepdim=True)
    return torch.einsum("nij,njhw->nihw", mixing, grey) * _uniform(rng, *NOISE_CONTRAST, count, 1, 1, 1)


def _chunk(seed: int, chunk: int, size: int) -> Tensor:
    """CHUNK images in 0..1, each of one of the three sorts that MIX_SHARES names."""
    rng = np.random.default_rng([seed, chunk])
    leaves, noise = _leaves(rng, CHUNK, size), _noise(rng, CHUNK, size)
    ground = _uniform(rng, 0.2, 0.8, CHUNK, 3, 1, 1)
    sort = torch.from_numpy(rng.choice(len(MIX_SHARES), p=MIX_SHARES, size=(CHUNK, 1, 1, 1)))
    image = torch.where(sort == 1, ground, leaves) + torch.where(sort == 0, torch.zeros(()), noise)
    return image.clamp(0, 1)


def render(count: int, seed: int, size: int = 32) -> Pixels:
    """``count`` images, uint8 ``(count, 3, size, size)``; a longer call starts with a shorter one's images."""
    chunks = [(_chunk(seed, chunk, size) * 255).round().to(torch.uint8) for chunk in range(-(-count // CHUNK))]
    return torch.cat(chunks)[:count].numpy()


def procedural(store: Store, *, count: int = 10_000, size: int = 32, seed: int = 0) -> Images:
    """The query set: ``count`` images at ``size`` pixels, drawn once and kept."""
    return load_generated(store, "procedural", render, count=count, size=size, seed=seed)
