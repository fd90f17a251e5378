from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, cohen_kappa_score, top_k_accuracy_score

from fmsteal.evaluation import metrics

shapes = st.tuples(st.integers(1, 40), st.integers(3, 12), st.integers(0, 10_000))


def pair(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    n, classes, seed = shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, generator=generator) * 3, torch.randn(n, classes, generator=generator) * 3


@given(shapes)
@settings(max_examples=50)
def test_against_scikit_learn_and_scipy(shape: tuple[int, int, int]) -> None:
    victim, thief = pair(shape)
    labels = victim.argmax(1).numpy()
    assert metrics.agreement(victim, thief) == pytest.approx(accuracy_score(labels, thief.argmax(1).numpy()))
    assert metrics.accuracy(thief, victim.argmax(1)) == pytest.approx(metrics.agreement(victim, thief))
    p, q = softmax(victim.double().numpy(), axis=1), softmax(thief.double().numpy(), axis=1)
    assert metrics.kl(victim, thief) == pytest.approx(float(entropy(p, q, axis=1).mean()), rel=1e-6)
    assert metrics.l1(victim, thief) == pytest.approx(float(np.abs(p - q).sum(1).mean()), rel=1e-6)
    assert 0 <= metrics.l1(victim, thief) <= 2
    if shape[1] > 2:
        want = top_k_accuracy_score(labels, thief.numpy(), k=2, labels=range(shape[1]))
        assert metrics.agreement_at(2, victim, thief) == pytest.approx(want)


@given(shapes, st.floats(0, 4))
@settings(max_examples=50)
def test_kappa_against_scikit_learn(shape: tuple[int, int, int], bias: float) -> None:
    victim, thief = pair(shape)
    thief[::2] = victim[::2]
    victim[:, 0] += bias  # classes of unequal frequency
    said, copied = victim.argmax(1).numpy(), thief.argmax(1).numpy()
    found = metrics.kappa(victim, thief)
    if len(set(said)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(said, copied), abs=1e-12)


def test_kappa_of_a_constant_thief_is_zero_and_of_a_constant_victim_undefined() -> None:
    victim, constant = torch.eye(3)[[0, 1, 2, 1]], torch.eye(3)[[0, 0, 0, 0]]
    assert metrics.kappa(victim, victim) == 1 and metrics.kappa(victim, constant) == pytest.approx(0)
    assert metrics.kappa(constant, victim) is None and metrics.kappa(constant, constant) is None


def test_the_least_sure_tenth_is_that_of_the_smallest_top_probability() -> None:
    victim, _ = pair((237, 5, 1))
    top = softmax(victim.double().numpy(), axis=1).max(1)
    found = metrics.find_least_sure(victim).tolist()
    assert len(found) == math.ceil(237 / 10) and found == np.argsort(top, kind="stable")[:24].tolist()
    assert metrics.find_least_sure(torch.ones(30, 4)).tolist() == [0, 1, 2]  # of equally sure ones the first
    assert len(metrics.find_least_sure(victim[:1])) == 1


def test_agreement_is_micro_not_macro() -> None:
    victim = torch.eye(3)[[0, 0, 0, 1]]
    thief = torch.eye(3)[[0, 0, 0, 2]]
    assert metrics.agreement(victim, thief) == 0.75  # macro over classes would be 0.5


def test_more_places_than_classes_always_agree() -> None:
    victim, thief = pair((8, 3, 0))
    assert metrics.agreement_at(5, victim, thief) == 1.0


def test_extreme_logits_give_finite_kl() -> None:
    victim, thief = torch.tensor([[200.0, 0, 0]]), torch.tensor([[0.0, 200.0, 0]])
    assert metrics.kl(victim, thief) == pytest.approx(200.0)
    assert metrics.kl(victim, victim) == pytest.approx(0.0, abs=1e-9)


@given(st.integers(1, 2000), st.data())
@settings(max_examples=50)
def test_wilson_against_its_formula(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, hits / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = metrics.wilson(p, n)
    assert low == pytest.approx(max(0, (centre - half) / (1 + z * z / n)), abs=1e-9)
    assert high == pytest.approx(min(1, (centre + half) / (1 + z * z / n)), abs=1e-9)
    assert low <= p + 1e-12 and p - 1e-12 <= high
