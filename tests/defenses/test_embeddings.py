from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.embeddings import FeatureNoise, FeatureRounding, FeatureTopK
from fmsteal.oracle.ledger import Question
from tests.support.asking import question, reply
from tests.support.exact import dimensions, embeddings, images, seeds

EVERY = [
    FeatureTopK(1),
    FeatureTopK(10),
    FeatureTopK(999),
    FeatureRounding(0),
    FeatureRounding(1),
    FeatureNoise(0.0),
    FeatureNoise(0.5),
]


def protect(defense: RowDefense, answers: Tensor, questions: list[Question] | None = None, seed: int = 0) -> Tensor:
    return reply(defense, answers, questions, seed=seed).answers


@pytest.mark.parametrize("defense", EVERY, ids=lambda d: f"{type(d).__name__}{vars(d)}")
@pytest.mark.parametrize("batch", [1, 7])
def test_a_batch_is_answered_row_by_row(defense: RowDefense, batch: int) -> None:
    (v,) = embeddings(0, (batch, 16))
    whole = protect(defense, v)
    assert whole.shape == v.shape and whole.dtype == torch.float32
    alone = [protect(defense, v[i : i + 1], [question(i)]) for i in range(batch)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=0, atol=0)
    torch.testing.assert_close(v, embeddings(0, (batch, 16))[0], rtol=0, atol=0)  # what came in is left alone


@pytest.mark.parametrize("defense", EVERY, ids=lambda d: f"{type(d).__name__}{vars(d)}")
def test_zero_rows_and_empty_batches_are_answered(defense: RowDefense) -> None:
    assert protect(defense, torch.zeros(2, 16)).isfinite().all()
    assert protect(defense, torch.zeros(0, 16)).shape == (0, 16)


@given(images, dimensions, st.integers(1, 20), seeds)
@settings(max_examples=40)
def test_top_k_is_a_loop_over_rows(n: int, d: int, k: int, seed: int) -> None:
    (v,) = embeddings(seed, (n, d))
    for row, answer in zip(v, protect(FeatureTopK(k), v), strict=True):
        kept = sorted(range(d), key=lambda c: -float(row[c]))[:k]
        assert answer.tolist() == [float(row[c]) if c in kept else 0.0 for c in range(d)]


def test_top_k_is_signed() -> None:
    answer = protect(FeatureTopK(2), torch.tensor([[-9.0, 0.5, -0.1, -3.0]]))
    torch.testing.assert_close(answer, torch.tensor([[0.0, 0.5, -0.1, 0.0]]))


@given(images, dimensions, st.integers(0, 3), seeds)
@settings(max_examples=40)
def test_rounding_is_of_the_normalised_row(n: int, d: int, decimals: int, seed: int) -> None:
    (v,) = embeddings(seed, (n, d))
    rows = v.numpy() / np.sqrt((v.numpy() ** 2).sum(axis=1, keepdims=True))
    answer = protect(FeatureRounding(decimals), v)
    assert np.abs(answer.numpy() - rows).max() <= 0.5 * 10.0**-decimals + 1e-6
    np.testing.assert_allclose(answer.numpy() * 10**decimals, np.round(answer.numpy() * 10**decimals), atol=1e-3)


def test_noise_is_normal_about_the_normalised_row() -> None:
    (v,) = embeddings(0, (40, 512))
    noise = protect(FeatureNoise(0.5), v) - torch.nn.functional.normalize(v, dim=1)
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.corrcoef().fill_diagonal_(0).abs().max()) < 0.25


def test_noise_is_replayed_but_new_for_each_ask_client_and_seed() -> None:
    v = embeddings(0, (1, 16))[0]
    first = protect(FeatureNoise(0.5), v, [question(3)])
    torch.testing.assert_close(first, protect(FeatureNoise(0.5), v, [question(3)]), rtol=0, atol=0)
    others = [protect(FeatureNoise(0.5), v, [q]) for q in (question(4), question(3, client=1), question(3, nth=1))]
    others.append(protect(FeatureNoise(0.5), v, [question(3)], seed=1))
    assert all(float((first - other).abs().max()) > 0.1 for other in others)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureTopK(0),
        lambda: FeatureRounding(-1),
        lambda: FeatureNoise(-0.1),
        lambda: FeatureNoise(float("nan")),
        lambda: FeatureNoise(float("inf")),
    ],
)
def test_settings_without_meaning_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match=r"defense\."):
        make()  # type: ignore[operator]


def test_each_says_what_it_answers() -> None:
    assert {d.answers for d in (FeatureTopK, FeatureRounding, FeatureNoise)} == {"embeddings"}
