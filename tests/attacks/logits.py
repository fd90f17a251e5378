"""Random logits, and their softmax as a loop."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

classes = st.integers(2, 7)


rows = st.integers(1, 5)


def softmax(row: Tensor) -> Tensor:
    powers = [torch.exp(z) for z in row]
    return torch.stack([p / sum(powers) for p in powers])


def logits(seed: int, *shape: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
