from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.base import NoDefense, RowDefense
from fmsteal.defenses.truncation import HardLabel, Rounding, TopK, hard_label, top_k
from tests.support.asking import reply

EVERY = [
    NoDefense(),
    HardLabel(),
    TopK(1),
    TopK(3),
    TopK(3, renormalise=True),
    TopK(99),
    Rounding(0),
    Rounding(1),
    Rounding(3),
]


def rows(n: int, classes: int = 7, seed: int = 0) -> Tensor:
    return (torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)) * 2).softmax(1)


def protect(defense: RowDefense, answers: Tensor) -> Tensor:
    return reply(defense, answers).answers


@pytest.mark.parametrize("defense", EVERY, ids=lambda d: f"{type(d).__name__}{vars(d)}")
@pytest.mark.parametrize("batch", [1, 7])
def test_a_batch_is_answered_row_by_row(defense: RowDefense, batch: int) -> None:
    p = rows(batch)
    whole = protect(defense, p)
    assert whole.shape == p.shape and whole.dtype == torch.float32
    one_by_one = torch.cat([protect(defense, p[i : i + 1]) for i in range(batch)])
    torch.testing.assert_close(whole, one_by_one, rtol=0, atol=0)
    torch.testing.assert_close(p, rows(batch), rtol=0, atol=0)  # what came in is left alone


@given(st.integers(1, 7), st.integers(2, 12), st.integers(1, 14), st.integers(0, 999))
@settings(max_examples=60)
def test_against_plain_loops(n: int, classes: int, k: int, seed: int) -> None:
    p = rows(n, classes, seed)
    for row, answer, label, again in zip(p, top_k(p, k), hard_label(p), top_k(p, k, renormalise=True), strict=True):
        order = sorted(range(classes), key=lambda c: -float(row[c]))[:k]
        want = [float(row[c]) if c in order else 0.0 for c in range(classes)]
        np.testing.assert_allclose(answer.numpy(), want)
        np.testing.assert_allclose(again.numpy(), np.array(want) / sum(want), rtol=1e-5)
        assert label.tolist() == [float(c == order[0]) for c in range(classes)]


def test_exactly_k_are_kept_where_they_tie() -> None:
    p = torch.full((2, 6), 1 / 6)
    assert (top_k(p, 2) > 0).sum(1).tolist() == [2, 2]
    assert hard_label(p).sum(1).tolist() == [1, 1]


def test_rounding_is_to_decimals() -> None:
    p = rows(7)
    np.testing.assert_allclose(protect(Rounding(1), p).numpy(), np.round(p.numpy(), 1), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: TopK(0), lambda: Rounding(-1)])
def test_settings_without_meaning_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match=r"defense\."):
        make()  # type: ignore[operator]
