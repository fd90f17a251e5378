"""Loss functions against plain loops: values and gradients, in float64 and in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

Loss = Callable[..., Tensor]

images = st.integers(1, 9)
several = st.integers(2, 9)
dimensions = st.integers(1, 17)
seeds = st.integers(0, 9999)


def embeddings(seed: int, *shapes: Sequence[int]) -> list[Tensor]:
    """Float32 rows of random directions and lengths between 0.5 and 2."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for shape in shapes:
        rows = torch.randn(*shape, generator=random)
        lengths = 0.5 + 1.5 * torch.rand(*shape[:-1], 1, generator=random)
        found.append(rows / rows.norm(dim=-1, keepdim=True) * lengths)
    return found


def graded(loss: Loss, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A loss, and its gradient with respect to each input."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    assert value.shape == ()
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


def agree(ours: Loss, loop: Loss, *inputs: Tensor, float32: float = 1e-5) -> None:
    """``ours`` is the float64 ``loop``: to 1e-9 in float64, to ``float32`` in float32; so are its gradients."""
    want, want_grads = graded(loop, [x.double() for x in inputs])
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, float32)):
        got, got_grads = graded(ours, [x.to(dtype) for x in inputs])
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=close, atol=close)
        for g, w in zip(got_grads, want_grads, strict=True):
            torch.testing.assert_close(g.double(), w, rtol=0, atol=close * max([1.0, *w.abs().flatten().tolist()]))


def unit(row: Tensor) -> Tensor:
    """A row divided by its length."""
    return row / row.square().sum().sqrt()
