"""Mutual information: Gaussians' closed form, scikit-learn's estimator, and a loop from the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from fmsteal.evaluation.mutual_information import estimate_excess, estimate_information, standardise


def gaussians(n: int, d: int, correlation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of which each number of one correlates with the same number of the other."""
    x, z = np.random.default_rng(seed).standard_normal((2, n, d))
    return x, correlation * x + math.sqrt(1 - correlation**2) * z


@pytest.mark.parametrize(("d", "correlation"), [(1, 0.0), (1, 0.5), (1, 0.9), (1, 0.99), (2, 0.6), (3, 0.5)])
def test_it_is_the_closed_form_of_gaussians(d: int, correlation: float) -> None:
    found = [estimate_information(*gaussians(1500, d, correlation, seed), 5) for seed in range(4)]
    wanted = -d / 2 * math.log(1 - correlation**2)
    assert np.mean(found) == pytest.approx(wanted, abs=0.03 + 0.05 * wanted)


@given(st.integers(20, 120), st.integers(1, 5), st.floats(-0.95, 0.95), st.integers(0, 99))
@settings(max_examples=25)
def test_it_is_scikit_learns_of_single_numbers(n: int, k: int, correlation: float, seed: int) -> None:
    x, y = (standardise(rows, None) for rows in gaussians(n, 1, correlation, seed))
    theirs = float(mutual_info_regression(x, y[:, 0], n_neighbors=k, random_state=0)[0])
    assert max(estimate_information(x, y, k), 0) == pytest.approx(theirs, abs=1e-6)


@given(st.integers(6, 25), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=25)
def test_it_is_a_loop_over_images(n: int, k: int, p: int, q: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((n, p)), random.standard_normal((n, q))
    terms = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        far_x = {j: max(abs(a - b) for a, b in zip(x[i], x[j], strict=True)) for j in others}
        far_y = {j: max(abs(a - b) for a, b in zip(y[i], y[j], strict=True)) for j in others}
        reach = sorted(max(far_x[j], far_y[j]) for j in others)[k - 1]
        terms.append(sum(digamma(sum(far[j] < reach for j in others) + 1) for far in (far_x, far_y)))
    assert estimate_information(x, y, k) == pytest.approx(digamma(k) + digamma(n) - np.mean(terms))


def test_chance_is_taken_off() -> None:
    """In many dimensions an estimate is biased, whether there is anything to find or not."""
    x, y = gaussians(300, 20, 0.0, 0)
    assert abs(estimate_excess(x, y, 5, 10, seed=0)) < 0.1
    x, y = gaussians(300, 20, 0.9, 0)
    assert estimate_excess(x, y, 5, 10, seed=0) > 0.3
    exchanged = np.random.default_rng(1).permutation(300)
    assert estimate_excess(x, y, 5, 3, 0) == pytest.approx(
        estimate_information(x, y, 5)
        - np.mean([estimate_information(x, y[order], 5) for order in three_orders(300, 0)])
    )
    assert abs(estimate_excess(x, y[exchanged], 5, 10, seed=0)) < 0.1


def three_orders(n: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.permutation(n) for _ in range(3)]


def test_what_does_not_vary_tells_nothing() -> None:
    x, _ = gaussians(100, 3, 0.0, 0)
    assert estimate_information(x, np.zeros((100, 4)), 5) == pytest.approx(0)
    assert (standardise(np.full((9, 4), 3.0), None) == 0).all()


def test_rows_are_standardised_after_a_rotation_to_their_principal_components() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((200, 6)) * [9, 7, 5, 0.1, 0.1, 0.1] + 4
    turned = rows @ np.linalg.qr(random.standard_normal((6, 6)))[0]
    for found in (standardise(turned, 3), standardise(rows, None), standardise(rows, 6)):
        np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(found.std(0), 1)
    np.testing.assert_allclose(np.abs(standardise(turned, 3)), np.abs(standardise(rows, 3)), atol=1e-6)
    correlation = np.corrcoef(standardise(rows, 3).T, rows[:, :3].T)[:3, 3:]
    assert (np.abs(np.diag(correlation)) > 0.95).all()
