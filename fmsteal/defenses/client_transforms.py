"""A transform of embeddings per client, so that answers to two accounts cannot simply be pooled (B4B).

These are the transforms published by B4B's authors (Dubinski et al., NeurIPS 2023). All random numbers of a transform
come from one generator, which depends on the client's number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]
TransformName = Literal["none", "affine", "diagonal", "pad_shuffle", "diagonal_pad_shuffle", "binary"]
WHOLE_BITS = 15  # of a matrix's entry
_EXACT_BITS = 53  # of a float64


def transformed_width(name: TransformName, width: int) -> int:
    """Width of a transformed embedding, given the embedding's ``width``."""
    return width if name in ("none", "affine", "diagonal") else 2 * width


def draw_transform(name: TransformName, width: int, random: torch.Generator) -> Transform:
    """A transform of float32 rows ``(n, D)``, with D = ``width``; each row is transformed independently.

    ``affine``: ``x A + b``, with all entries of A ``(D, D)`` and b drawn from U(-1, 1), A's in steps of 2**-15.
    ``diagonal``: the same with a diagonal A. ``pad_shuffle``: D constants drawn from N(0, 1) are appended, the same in
    every answer, then all 2D are permuted. ``diagonal_pad_shuffle``: first ``diagonal``, then ``pad_shuffle``.
    ``binary``: 1 or 0 by the side of each of 2D hyperplanes on which the row lies; their slopes are tangents of uniform
    angles, and each contains a point drawn uniformly from the unit cube.
    """
    if name == "affine":
        return _draw_affine(width, random)
    if name == "diagonal":
        return _draw_diagonal(width, random)
    if name == "pad_shuffle":
        return _draw_pad_shuffle(width, random)
    if name == "diagonal_pad_shuffle":
        first, then = _draw_diagonal(width, random), _draw_pad_shuffle(width, random)
        return lambda rows: then(first(rows))
    if name == "binary":
        return _draw_binary(width, random)
    return lambda rows: rows


def multiply_exactly(rows: Tensor, whole: Tensor) -> Tensor:
    """``rows (n, D) @ whole (D, K)`` in float64, bit-identical however the rows are split into blocks.

    ``whole`` holds whole numbers of at most 2**15 in size. A row is rounded to multiples of a power of two, which is
    chosen relative to its largest entry such that every sum is exact; at 2,048 numbers that is 2**-26, finer than
    float32.
    """
    bits = _EXACT_BITS - WHOLE_BITS - int(rows.shape[1]).bit_length()
    exponents = rows.double().abs().amax(1, keepdim=True).frexp().exponent
    steps = torch.ldexp(torch.ones_like(exponents, dtype=torch.float64), exponents - bits)
    return ((rows.double() / steps).round() @ whole) * steps


def _draw_affine(width: int, random: torch.Generator) -> Transform:
    most = 2**WHOLE_BITS
    whole = torch.randint(-most, most + 1, (width, width), generator=random).double()
    offset = _uniform(width, random)
    return lambda rows: (multiply_exactly(rows, whole) / most + offset).float()


def _draw_diagonal(width: int, random: torch.Generator) -> Transform:
    scale, offset = _uniform(width, random), _uniform(width, random)
    return lambda rows: (rows.double() * scale + offset).float()


def _draw_pad_shuffle(width: int, random: torch.Generator) -> Transform:
    constants, order = torch.randn(width, generator=random), torch.randperm(2 * width, generator=random)
    return lambda rows: torch.cat([rows, constants.expand(len(rows), -1)], dim=1)[:, order]


def _draw_binary(width: int, random: torch.Generator) -> Transform:
    planes = 2 * width
    angles = 2 * math.pi * torch.rand(width - 1, planes, generator=random, dtype=torch.float64)
    normals = torch.cat([-angles.tan(), torch.ones(1, planes, dtype=torch.float64)])
    points = torch.rand(planes, width, generator=random, dtype=torch.float64)
    intercepts = (normals * points.T).sum(0)
    return lambda rows: (rows.double() @ normals > intercepts).float()


def _uniform(count: int, random: torch.Generator) -> Tensor:
    return 2 * torch.rand(count, generator=random, dtype=torch.float64) - 1
