"""A projection head on a victim's frozen trunk: views of one image map close together, other images apart (SimCLR)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.data.images import Ids, Images
from fmsteal.data.random_views import Views, draw_views
from fmsteal.training.contrastive import nt_xent

BATCH = 256
RATE = 1e-3  # of Adam


def draw_view_sets(views: Views, drawn: int, images: Images, ids: Ids, seed: int) -> Images:
    """``drawn`` views of each of ``images[ids]`` in one set: the first view of each, then the second, and so on."""
    pixels = [draw_views(views, images, ids, "projection head", seed, number) for number in range(drawn)]
    return Images.of(np.concatenate(pixels), classes=images.classes)


def make_head(width: int, projection: int) -> nn.Sequential:
    """Embeddings ``(n, width)`` in, projections out: SimCLR's head with one hidden layer, untrained."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))


def train_head(rows: Tensor, projection: int, temperature: float, epochs: int, seed: int) -> nn.Sequential:
    """A head trained by NT-Xent on embeddings ``(views, n, width)`` of the same n images, on the CPU.

    Each epoch compares two views of each image, chosen anew; the embeddings are fixed.
    """
    views, count, width = rows.shape
    order = np.random.default_rng(derive_seed("projection head", "order", seed))
    with seed_block("projection head", seed), torch.enable_grad():
        head = make_head(width, projection)
        optimizer = torch.optim.Adam(head.parameters(), RATE)
        for _ in range(epochs):
            pairs = torch.from_numpy(order.permuted(np.tile(np.arange(views), (count, 1)), axis=1)[:, :2])
            for ids in torch.from_numpy(order.permutation(count)).split(BATCH):
                one, other = (head(rows[pairs[ids, side], ids]) for side in (0, 1))
                optimizer.zero_grad()
                nt_xent(one, other, temperature).backward()
                optimizer.step()
    return head.eval().requires_grad_(False)
