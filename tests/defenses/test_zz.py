"""ModelGuard-W against SciPy's linear programs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from fmsteal.defenses.chain import Chain
from fmsteal.defenses.modelguard_w import ModelGuardW, modelguard_w
from fmsteal.defenses.truncation import Rounding
from tests.support.asking import question, reply
from tests.support.simplex import dirichlet, simplex

Rows = npt.NDArray[np.float64]


def by_linprog(p: Rows, cost: Rows, epsilon: float, margin: float) -> Rows | None:
    """The answer to one row: classes and, above each distance from p, a variable. None if there is none."""
    k, one = len(p), np.eye(len(p))
    lead = np.delete(one, p.argmax(), 0)
    lead[:, p.argmax()] = -1
    above = np.vstack(
        [
            np.hstack([one, -one]),
            np.hstack([-one, -one]),
            np.hstack([np.zeros((1, k)), np.ones((1, k))]),
            np.hstack([lead, np.zeros_like(lead)]),
        ]
    )
    limits = np.concatenate([p, -p, [epsilon], np.full(k - 1, -margin)])
    found = linprog(
        np.r_[cost, np.zeros(k)], above, limits, np.r_[np.ones(k), np.zeros(k)][None], [1.0], bounds=(0, None)
    )
    return None if found.status else found.x[:k]


def check(p: Tensor, epsilon: float, margin: float) -> None:
    p = p.double() / p.double().sum(1, keepdim=True)
    cost = (p + 1e-6).log()
    y = modelguard_w(p, cost, epsilon, margin)
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


@given(simplex(40), st.floats(0, 2), st.sampled_from([1e-4, 0.01, 0.2]))
@settings(max_examples=300)
def test_so_it_does_where_classes_tie_and_the_lead_is_wide(p: Tensor, epsilon: float, margin: float) -> None:
    check(p, epsilon, margin)


def test_a_plausible_fill_of_the_cheapest_class_is_dearer() -> None:
    """Raising the top class can pay: it lifts the cap of the cheapest one, at the cost of the one between."""
    p = torch.tensor([[0.05, 0.46, 0.49]], dtype=torch.float64)
    cost = (p + 1e-6).log()
    y = modelguard_w(p, cost, 2.0, 1e-4)
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
