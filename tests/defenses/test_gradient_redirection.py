"""GRAD^2 against whole Jacobians and SciPy's linear programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor
from torch.func import functional_call

from fmsteal.defenses.gradient_redirection import (
    Direction,
    GradientRedirection,
    mean_gradient,
    ones,
    redirect,
    scores,
)
from fmsteal.defenses.surrogate import Surrogate
from tests.support.asking import asked, guard_of, question, training_images
from tests.support.guards import LOGITS, WIDTH, api
from tests.support.published_defenses import EXACT
from tests.support.simplex import dirichlet, simplex


def jacobian(surrogate: Surrogate, image: Tensor) -> Tensor:
    """d log q / d weights of one image, ``(K, weights)``, a class at a time."""
    weights = {name: w.detach().clone().requires_grad_() for name, w in surrogate.named_parameters()}
    logs = functional_call(surrogate, weights, image[None])[0]
    rows = [torch.autograd.grad(log, list(weights.values()), retain_graph=True) for log in logs]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def flat(direction: Direction) -> Tensor:
    return torch.cat([g.flatten() for g in direction.values()])


def test_scores_and_directions_are_those_of_whole_jacobians() -> None:
    surrogate, p = Surrogate(6, 0), dirichlet(0, 5, 6)
    images = asked(p).images()
    rows = [jacobian(surrogate, image) for image in images]
    z = torch.stack([g.T @ y for g, y in zip(rows, p, strict=True)]).mean(0)
    torch.testing.assert_close(flat(mean_gradient(surrogate, images, p)), z, rtol=1e-3, atol=1e-5)
    for direction in (mean_gradient(surrogate, images, p), ones(surrogate)):
        wanted = torch.stack([g @ flat(direction) for g in rows])
        torch.testing.assert_close(scores(surrogate, images, direction), wanted, rtol=1e-3, atol=1e-4)


@given(simplex(), st.floats(0, 2), st.integers(0, 999))
@settings(max_examples=60)
def test_it_is_the_minimum_of_the_linear_program(p: Tensor, epsilon: float, seed: int) -> None:
    p = p.double() / p.double().sum(1, keepdim=True)
    g = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)).double()
    k, one = p.shape[1], np.eye(p.shape[1])
    above = np.vstack([np.hstack([one, -one]), np.hstack([-one, -one]), np.r_[np.zeros(k), np.ones(k)][None]])
    for row, c, y in zip(p.numpy(), g.numpy(), redirect(p, g, epsilon).numpy(), strict=True):
        if epsilon < 1e-12:  # less than the rounding of the row's sum, at which linprog may find no row at all
            np.testing.assert_allclose(y, row, rtol=0, atol=1e-12)
            continue
        found = linprog(np.r_[c, np.zeros(k)], above, np.r_[row, -row, epsilon], np.r_[np.ones(k), np.zeros(k)][None],
                        [1.0], bounds=(0, None), options=EXACT)  # fmt: skip
        assert y @ c == pytest.approx(found.fun, abs=1e-7) and y.sum() == pytest.approx(1) and y.min() >= 0
        assert np.abs(y - row).sum() <= epsilon + 1e-9


def test_without_a_batch_the_direction_is_of_training_images() -> None:
    p = dirichlet(0, 8, 4)
    ask, surrogate, train = asked(p), Surrogate(4, 3), training_images(4)
    y = guard_of(GradientRedirection(0.5, seed=3), 4).reply(ask).answers
    some = np.sort(np.random.default_rng(3).permutation(200)[:64])
    own = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(int(i))) for i in some]).softmax(1)
    direction = mean_gradient(surrogate, torch.from_numpy(train.pixels[some]), own)
    g = scores(surrogate, ask.images(), direction).double()
    torch.testing.assert_close(y.double(), redirect(p.double(), g, 0.5), rtol=0, atol=1e-6)


def test_a_batch_has_its_own_direction(tmp_path: Path) -> None:
    defense = GradientRedirection(0.5, batch=8)
    assert defense.depends == "batch" and GradientRedirection(z="ones", batch=8).depends == "row"
    guard = guard_of(defense, WIDTH)
    assert guard.batch == 8  # type: ignore[attr-defined]
    answers = api(tmp_path, guard).ask(np.arange(16))
    first, second = (LOGITS[a:b].softmax(1) for a, b in ((0, 8), (8, 16)))
    assert not torch.equal(answers[:8], first) and answers.shape == (16, WIDTH)
    other = api(tmp_path / "other", guard_of(defense, WIDTH)).ask(np.r_[8:16, 0:8])
    torch.testing.assert_close(other[:8], answers[8:], rtol=0, atol=0)
    mixed = api(tmp_path / "mixed", guard_of(defense, WIDTH)).ask(np.arange(4, 12))
    assert not torch.equal(mixed[:4], answers[4:8]) or not torch.equal(mixed[4:], answers[8:12])
    assert (answers[8:] - second).abs().sum(1).max() <= 0.5 + 1e-5


def test_questions_are_no_more_than_a_row_of_answers() -> None:
    guard = guard_of(GradientRedirection(1.0), 5)
    assert guard.reply(asked(torch.zeros(0, 5), [])).answers.shape == (0, 5)
    guard.fold([question(0)], [b""])
