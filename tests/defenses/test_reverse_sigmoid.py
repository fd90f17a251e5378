"""Reverse sigmoid against a plain loop, and what it does to labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.defenses.reverse_sigmoid import ReverseSigmoid
from tests.support.asking import question, reply
from tests.support.simplex import dirichlet, simplex


@given(simplex(), st.floats(0, 1.5), st.floats(0, 2))
@settings(max_examples=60)
def test_it_is_a_loop_over_rows(p: Tensor, beta: float, gamma: float) -> None:
    for row, y in zip(p.double().numpy(), reply(ReverseSigmoid(beta, gamma), p).answers.numpy(), strict=True):
        row = row / row.sum()
        left = []
        for v in row:
            inner = min(max(v, 1e-9), 1 - 1e-9)
            left.append(max(0.0, v - beta * (1 / (1 + math.exp(-gamma * math.log(inner / (1 - inner)))) - 0.5)))
        np.testing.assert_allclose(y, np.array(left) / sum(left) if sum(left) > 0 else row, atol=2e-6)


@pytest.mark.parametrize(
    ("classes", "beta", "gamma", "kept"), [(10, 1, 0.1, 0.959), (100, 1, 0.1, 0.028), (100, 0.008, 0.2, 1)]
)
def test_how_often_the_label_is_kept(classes: int, beta: float, gamma: float, kept: float) -> None:
    p = dirichlet(0, 4000, classes, 0.1)
    y = reply(ReverseSigmoid(beta, gamma), p, [question(n % 256) for n in range(4000)]).answers
    assert float((y.argmax(1) == p.argmax(1)).float().mean()) == pytest.approx(kept, abs=0.006)
