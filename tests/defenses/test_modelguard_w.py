"""ModelGuard-W, and the linear programs that it solves, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.defenses.chain import Chain
from fmsteal.defenses.cheapest import find_cheapest
from fmsteal.defenses.modelguard_w import ModelGuardW
from fmsteal.defenses.truncation import Rounding
from tests.support.asking import question, reply
from tests.support.published_defenses import by_linprog
from tests.support.simplex import dirichlet, simplex


def check(p: Tensor, epsilon: float, margin: float, cost: Tensor | None = None) -> None:
    p = p.double() / p.double().sum(1, keepdim=True)
    cost = (p + 1e-6).log() if cost is None else cost
    y = find_cheapest(p, cost, epsilon, margin)
    assert (y - p).abs().sum(1).max() <= epsilon + 1e-9 and y.min() >= 0
    for row, c, answer in zip(p.numpy(), cost.numpy(), y.numpy(), strict=True):
        best = by_linprog(row, c, epsilon, margin)
        if best is None:
            np.testing.assert_allclose(answer, row, rtol=0, atol=1e-12)
            continue
        assert answer @ c == pytest.approx(best @ c, abs=1e-6)
        assert answer.sum() == pytest.approx(1, abs=1e-9)
        assert answer[row.argmax()] - np.delete(answer, row.argmax()).max() >= margin - 1e-9


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 43, 100])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 2.0])
def test_it_costs_what_the_linear_program_costs(classes: int, epsilon: float) -> None:
    for alpha in (0.03, 0.3, 3.0):
        check(dirichlet(classes, 4, classes, alpha), epsilon, 1e-4)


@pytest.mark.slow
@given(simplex(40), st.floats(0, 2), st.sampled_from([1e-4, 0.01, 0.2]))
@settings(max_examples=60)
def test_so_it_does_where_classes_tie_and_the_lead_is_wide(p: Tensor, epsilon: float, margin: float) -> None:
    check(p, epsilon, margin)


@pytest.mark.parametrize("classes", [2, 3, 10, 43])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 2.0])
def test_any_costs_may_be_given(classes: int, epsilon: float) -> None:
    """Also some that do not rise with p, that tie, and that make the top class the cheapest or the dearest."""
    draw = torch.Generator().manual_seed(classes)
    for alpha in (0.03, 0.3, 3.0):
        p = dirichlet(classes, 6, classes, alpha)
        cost = torch.randn(6, classes, generator=draw, dtype=torch.float64)
        cost[1], cost[2] = cost[1].round(), 0.0
        cost[3, p[3].argmax()], cost[4, p[4].argmax()] = -9.0, 9.0
        check(p, epsilon, 1e-4, cost)


@given(simplex(12), st.floats(0, 2), st.sampled_from([1e-4, 0.2]), st.integers(0, 2**31))
@settings(max_examples=60)
def test_so_are_those_of_any_row(p: Tensor, epsilon: float, margin: float, seed: int) -> None:
    check(p, epsilon, margin, torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_a_plausible_fill_of_the_cheapest_class_is_dearer() -> None:
    """Raising the top class can pay: it lifts the cap of the cheapest one, at the cost of the one between."""
    p = torch.tensor([[0.05, 0.46, 0.49]], dtype=torch.float64)
    cost = (p + 1e-6).log()
    y = find_cheapest(p, cost, 2.0, 1e-4)
    greedy = torch.tensor([[0.4599, 0.05, 0.4901]], dtype=torch.float64)
    assert y[0, 2] > p[0, 2] and float((cost * (greedy - y)).sum()) > 0.05
    check(p, 2.0, 1e-4)


def test_the_lead_survives_float32_and_a_rounding_that_it_is_wide_enough_for() -> None:
    p = dirichlet(0, 3000, 10, 1.0)
    questions = [question(n % 256) for n in range(3000)]
    second = reply(ModelGuardW(2.0), p, questions).answers.topk(2, dim=1).values
    assert float((second[:, 0] - second[:, 1]).min()) > 9.9e-5
    for margin, all_kept in ((1e-3, True), (1e-5, False)):
        y = reply(Chain({"a": ModelGuardW(2.0, margin), "b": Rounding(3)}), p, questions).answers.topk(2, dim=1)
        assert bool((y.values[:, 0] > y.values[:, 1]).all()) == all_kept
