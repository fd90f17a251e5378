"""The posterior mean of a table, against a plain loop over rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks import posterior
from fmsteal.attacks.posterior import find_posterior_means
from fmsteal.defenses.truncation import top_k
from tests.support.simplex import dirichlet, seeds


def loop(answers: np.ndarray, clean: np.ndarray, defended: np.ndarray, tolerance: float) -> np.ndarray:
    """As the paper's code does it: answer by answer, row by row."""
    means = []
    for answer in answers:
        same = [row for row in range(len(clean)) if defended[row].argmax() == answer.argmax()]
        apart = {
            row: sum(abs(a - b) for a, b in zip(defended[row], answer, strict=True))
            for row in same or range(len(clean))
        }
        limit = max(tolerance, min(apart.values()))
        means.append(np.mean([clean[row] for row in apart if apart[row] <= limit + 1e-9], axis=0))
    return np.array(means)


@given(
    seeds, st.integers(2, 5), st.integers(1, 8), st.integers(1, 40), st.sampled_from([0.0, 0.01, 0.3]), st.booleans()
)
@settings(max_examples=60)
def test_posterior_means_against_a_plain_loop(
    seed: int, classes: int, count: int, rows: int, tolerance: float, truncated: bool
) -> None:
    answers, clean = dirichlet(seed, count, classes, 1.0), dirichlet(seed + 1, rows, classes, 1.0)
    defended = torch.round(clean, decimals=1)
    if truncated:  # many equal rows and ties, and rows of zeros
        answers, defended = torch.round(top_k(answers, 1), decimals=1), torch.round(top_k(clean, 1), decimals=1)
    found = find_posterior_means(answers, clean, defended, tolerance)
    wanted = loop(*(part.double().numpy() for part in (answers, clean, defended)), tolerance)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_the_means_do_not_depend_on_how_many_are_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, clean = dirichlet(0, 40, 4), dirichlet(1, 500, 4)
    whole = find_posterior_means(answers, clean, torch.round(clean, decimals=1), 0.05)
    monkeypatch.setattr(posterior, "AT_ONCE", 700)  # distances
    parts = find_posterior_means(answers, clean, torch.round(clean, decimals=1), 0.05)
    torch.testing.assert_close(whole, parts, atol=1e-6, rtol=0)
