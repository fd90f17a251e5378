"""The contrastive loss of SimCLR, which several attacks on encoders share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al., ICML 2020, eq. 1): each of 2n embeddings must find its other view among the 2n - 1 others.

    With cosines s, ``mean_i -log(e^{s(i, i')/t} / sum_{j != i} e^{s(i, j)/t})``; the positive i' is in the sum. A
    single pair has no negatives: its loss is 0.

    Args:
        a, b: ``(n, D)``, n >= 1; row i of both is the same image. They are normalised here.
        temperature: t > 0; cosines are divided by it.
    """
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(a)
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    other_view = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, other_view)
