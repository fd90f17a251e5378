"""Rows of probabilities to perturb: sure ones, flat ones, ties, zeros."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

seeds = st.integers(0, 9999)
classes = st.integers(2, 30)


def dirichlet(seed: int, n: int, classes: int, alpha: float = 0.3) -> Tensor:
    """Float32 ``(n, K)``, as a victim answers."""
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(classes, alpha), n)).float()


@st.composite
def simplex(draw: st.DrawFn, most: int = 30, least: int = 2) -> Tensor:
    """A few rows, some of them with ties, zeros or a class that is sure."""
    k = draw(st.integers(least, most))
    rows = dirichlet(draw(seeds), draw(st.integers(1, 5)), k, draw(st.sampled_from([0.03, 0.3, 1.0, 10.0])))
    odd = draw(st.sampled_from(["none", "flat", "sure", "tie", "zeros"]))
    if odd == "flat":
        rows[0] = 1 / k
    elif odd == "sure":
        rows[0] = torch.eye(k)[draw(st.integers(0, k - 1))]
    elif odd == "tie":
        rows[0, :2] = rows[0].max()
    elif odd == "zeros":
        rows[0, : k // 2] = 0
    return rows / rows.sum(1, keepdim=True).clip(min=1e-30) if rows.sum(1).min() > 0 else dirichlet(0, 2, k)
