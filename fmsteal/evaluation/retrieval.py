"""A picture to look at: images of a set, and those that are nearest to each for target and thief."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import make_grid

TILE, PADDING, CAPTION, FRAME = 64, 4, 16, 4  # pixels
COMMON = (0, 160, 60)  # the colour of the frame around a neighbour that both found


def picture(images: Tensor, queries: Tensor, target: Tensor, thief: Tensor) -> Image.Image:
    """A row for each query: the image, the target's nearest ones, the thief's; those that both have are framed.

    Args:
        images: uint8 ``(n, 3, H, W)``.
        queries: ids of the query images, ``(q,)``.
        target: ids of their neighbours by the target's embeddings, the nearest first, ``(q, k)``.
        thief: the same by the thief's embeddings, ``(q, k)``.
    """
    blank = torch.full((1, 3, TILE, TILE), 255, dtype=torch.uint8)
    tiles = []
    for query, ours, theirs in zip(queries, target, thief, strict=True):
        tiles += [_tiles(images, query[None]), blank, _framed(images, ours, theirs)]
        tiles += [blank, _framed(images, theirs, ours)]
    k = target.shape[1]
    grid = make_grid(torch.cat(tiles), nrow=2 * k + 3, padding=PADDING, pad_value=255)
    drawn = Image.new("RGB", (grid.shape[2], grid.shape[1] + CAPTION), "white")
    drawn.paste(Image.fromarray(grid.permute(1, 2, 0).numpy()), (0, CAPTION))
    pen = ImageDraw.Draw(drawn)
    for column, words in ((0, "query"), (2, "target's nearest"), (3 + k, "thief's nearest (framed: both have it)")):
        pen.text((PADDING + column * (TILE + PADDING), 2), words, fill="black")
    return drawn


def _tiles(images: Tensor, ids: Tensor) -> Tensor:
    resized = F.interpolate(images[ids].float(), size=(TILE, TILE), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _framed(images: Tensor, ids: Tensor, others: Tensor) -> Tensor:
    inside = torch.zeros(TILE, TILE, dtype=torch.bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    framed = torch.isin(ids, others)[:, None, None, None] & ~inside
    colour = torch.tensor(COMMON, dtype=torch.uint8)[:, None, None]
    return torch.where(framed, colour, _tiles(images, ids))
