"""The closed form against scikit-learn's ridge regression, row space and feature space alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Reference

from fmsteal.attacks.ridge import PENALTIES, fit_ridge

RANDOM = np.random.default_rng(5)


def problem(n: int, d: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = RANDOM.normal(size=(n, d)) * RANDOM.uniform(0.1, 3, d) + RANDOM.normal(size=d)
    y = x @ RANDOM.normal(size=(d, 4)) + 7 + noise * RANDOM.normal(size=(n, 4))
    held = np.zeros(n, dtype=bool)
    held[RANDOM.permutation(n)[: n // 5]] = True
    return x, y, held


@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 70), (40, 32), (41, 41)])
def test_the_map_and_its_penalty_are_those_of_a_plain_search(n: int, d: int) -> None:
    x, y, held = problem(n, d)
    found = fit_ridge(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(held))

    def reference(rows: np.ndarray, penalty: float) -> Reference:
        part = x[rows]
        return Reference(alpha=penalty * len(part) * part.var(axis=0).mean(), solver="svd").fit(part, y[rows])

    base = np.square(y[held] - y[~held].mean(axis=0)).sum()
    errors = {p: np.square(y[held] - reference(~held, p).predict(x[held])).sum() / base for p in PENALTIES}
    assert found.penalty == min(errors, key=errors.__getitem__)
    assert found.residual == pytest.approx(errors[found.penalty], rel=1e-6)
    whole = reference(np.ones(n, dtype=bool), found.penalty)
    np.testing.assert_allclose(found.weight.numpy(), whole.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.bias.numpy(), whole.intercept_, rtol=1e-6, atol=1e-7)


def test_a_linear_map_is_recovered_and_noise_is_not_taken_for_one() -> None:
    x, y, held = (torch.from_numpy(a) for a in problem(60, 8, noise=0))
    assert fit_ridge(x, y, held).residual < 1e-8
    noise = torch.from_numpy(RANDOM.normal(size=(60, 4)))
    found = fit_ridge(x, noise, held)
    assert found.penalty > 0.1 and found.residual > 0.8


def test_a_penalty_means_the_same_in_other_units() -> None:
    x, y, held = (torch.from_numpy(a) for a in problem(50, 20))
    one, other = fit_ridge(x, y, held), fit_ridge(1000 * x + 5, y, held)
    assert one.penalty == other.penalty and one.residual == pytest.approx(other.residual, rel=1e-6)
    torch.testing.assert_close(one.weight, 1000 * other.weight, rtol=1e-6, atol=1e-8)


def test_features_that_do_not_vary_give_the_mean() -> None:
    x, y, held = torch.ones(20, 3), torch.from_numpy(RANDOM.normal(size=(20, 2))), torch.arange(20) < 4
    found = fit_ridge(x, y, held)
    assert not found.weight.any()
    torch.testing.assert_close(found.bias, y.mean(0))


def test_bad_penalties_and_splits_are_refused() -> None:
    x, y = torch.ones(4, 2), torch.ones(4, 1)
    for held in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="rows are held out"):
            fit_ridge(x, y, held)
    with pytest.raises(ValueError, match="above 0"):
        fit_ridge(x, y, torch.arange(4) < 1, [0.0, 1.0])
