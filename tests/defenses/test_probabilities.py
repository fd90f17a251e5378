"""What every defense that perturbs a row of probabilities keeps: see also `test_every_defense`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError, DefenseError
from fmsteal.defenses.chain import Chain
from fmsteal.defenses.gradient_redirection import GradientRedirection
from fmsteal.defenses.mad import MAD
from fmsteal.defenses.modelguard_w import ModelGuardW
from fmsteal.defenses.noise import Gaussian, Laplace
from fmsteal.defenses.reverse_sigmoid import ReverseSigmoid
from fmsteal.defenses.truncation import Rounding, TopK
from tests.support.asking import guard_of, question, reply
from tests.support.guards import WIDTH, api
from tests.support.simplex import dirichlet, simplex

EPSILONS = (0.1, 0.5, 1.0)
BOUNDED: list[tuple[Callable[[float], Any], bool]] = [  # within epsilon; whether the label is kept
    (lambda epsilon: ModelGuardW(epsilon), True),
    (lambda epsilon: MAD(epsilon), False),
    (lambda epsilon: MAD(epsilon, keep_label=True), True),
    (lambda epsilon: GradientRedirection(epsilon), False),
    (lambda epsilon: GradientRedirection(epsilon, z="ones"), False),
]
EVERY: list[Any] = [
    Gaussian(0.2),
    Gaussian(0.0),
    Laplace(0.2),
    Laplace(5.0, per="image"),
    ReverseSigmoid(),
    ReverseSigmoid(0.008, 0.2),
    *(make(1.0) for make, _ in BOUNDED),
]
LIMITS = [make(epsilon) for make, _ in BOUNDED for epsilon in (0.0, 2.0)]  # of what a budget may be


def named(defense: Any) -> str:
    return f"{type(defense).__name__}{vars(defense)}"


each_defense = pytest.mark.parametrize(
    "defense", [*EVERY, *(pytest.param(defense, marks=pytest.mark.slow) for defense in LIMITS)], ids=named
)


@each_defense
@given(simplex())
@settings(max_examples=8)
def test_what_leaves_is_a_distribution(defense: Any, p: Tensor) -> None:
    before = p.clone()
    y = reply(defense, p).answers
    assert y.shape == p.shape and y.dtype == torch.float32 and torch.equal(p, before)
    assert y.isfinite().all() and y.min() >= 0
    torch.testing.assert_close(y.double().sum(1), torch.ones(len(p), dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("make", "keeps"), BOUNDED)
@given(simplex(), st.sampled_from(EPSILONS))
@settings(max_examples=25)
def test_it_stays_within_epsilon_and_keeps_the_label(
    make: Callable[[float], Any], keeps: bool, p: Tensor, epsilon: float
) -> None:
    y = reply(make(epsilon), p).answers
    assert (y - p).abs().sum(1).max() <= epsilon + 1e-5
    if keeps:
        assert torch.equal(y.argmax(1), p.argmax(1))


@each_defense
@pytest.mark.parametrize("classes", [2, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_row_is_answered_alike_among_any_others(defense: Any, classes: int) -> None:
    p = dirichlet(0, 23, classes)
    guard = guard_of(defense, classes)
    questions = [question(row) for row in range(23)]
    whole = reply(defense, p, questions).answers
    for size in (1, 7):
        cut = [reply(defense, p[i : i + size], questions[i : i + size]).answers for i in range(0, 23, size)]
        torch.testing.assert_close(torch.cat(cut), whole, rtol=0, atol=0)
    assert guard.width == classes and reply(defense, p[:0], []).answers.shape == (0, classes)


@each_defense
@pytest.mark.parametrize(
    "row", [[0.5, 0.3, 0.1], [0.6, 0.6, -0.2], [float("nan"), 0.5, 0.5], [0.0, 0.0, 0.0], [-1.0, 3.0, 2.0]], ids=str
)
def test_what_is_no_distribution_is_refused_by_name(defense: Any, row: list[float]) -> None:
    with pytest.raises(DefenseError, match=rf"{type(defense).__name__} perturbs probabilities, but 1 of 3 rows"):
        reply(defense, torch.tensor([[0.2, 0.3, 0.5], row, [1.0, 0.0, 0.0]]))


def test_after_one_that_truncates_it_needs_rows_that_are_whole() -> None:
    p = dirichlet(0, 5, 10)
    with pytest.raises(DefenseError, match=r"ModelGuardW perturbs probabilities.*renormalise=true"):
        reply(Chain({"a": TopK(2), "b": ModelGuardW()}), p)
    y = reply(Chain({"a": TopK(2, renormalise=True), "b": ModelGuardW(0.5), "c": Rounding(6)}), p).answers
    assert torch.equal(y.argmax(1), p.argmax(1))


def test_nothing_is_paid_for_rows_that_are_refused(tmp_path: Path) -> None:
    oracle = api(tmp_path, guard_of(Chain({"a": Rounding(0), "b": MAD()}), WIDTH))
    with pytest.raises(DefenseError, match=r"MAD perturbs probabilities, but \d+ of 40 rows"):
        oracle.ask(np.arange(40))
    assert oracle.used == 0 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(-1.0),
        lambda: Laplace(float("nan")),
        lambda: ReverseSigmoid(beta=-0.1),
        lambda: ReverseSigmoid(gamma=float("inf")),
        lambda: ModelGuardW(-1.0),
        lambda: ModelGuardW(float("nan")),
        lambda: ModelGuardW(margin=0.0),
        lambda: MAD(-0.1),
        lambda: GradientRedirection(float("nan")),
        lambda: GradientRedirection(batch=0),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"defense\.\w+ must be"):
        make()
