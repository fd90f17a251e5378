from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.training.contrastive import nt_xent
from tests.support.exact import agree, dimensions, embeddings, images, seeds, unit


def loop(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    z = [unit(row) for row in [*a, *b]]
    n, total = len(a), a.new_zeros(())
    for i, anchor in enumerate(z):
        every = [(anchor @ other / temperature).exp() for j, other in enumerate(z) if j != i]
        total = total - ((anchor @ z[(i + n) % (2 * n)] / temperature).exp() / torch.stack(every).sum()).log()
    return total / (2 * n)


@given(images, dimensions, seeds, st.sampled_from([0.07, 0.5, 1.0]))
@settings(max_examples=40)
def test_is_its_formula(n: int, d: int, seed: int, temperature: float) -> None:
    a, b = embeddings(seed, (n, d), (n, d))
    agree(lambda x, y: nt_xent(x, y, temperature), lambda x, y: loop(x, y, temperature), a, b)


def test_both_sides_are_anchors() -> None:
    a, b = embeddings(0, (5, 8), (5, 8))
    torch.testing.assert_close(nt_xent(a, b, 0.5), nt_xent(b, a, 0.5))


def test_a_single_pair_costs_nothing() -> None:
    a, b = embeddings(0, (1, 8), (1, 8))
    assert nt_xent(a, b, 0.07) == 0


@pytest.mark.parametrize("temperature", [0.001, 0.07])
def test_extreme_logits_and_zero_rows_stay_finite(temperature: float) -> None:
    a = torch.zeros(3, 8, requires_grad=True)
    b = torch.eye(3, 8) * 1e4
    loss = nt_xent(a, b, temperature)
    (grad,) = torch.autograd.grad(loss, a)
    assert loss.isfinite() and grad.isfinite().all()
    assert nt_xent(b, b.roll(1, 0), temperature).isfinite()
