"""CKA against loops written from the formulas, and against what it must and must not change with."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.evaluation.base import Pair
from fmsteal.evaluation.similarity import Similarity, cka, cka_unbiased, entropy
from fmsteal.training.inference import logits
from fmsteal.victims.base import Victim
from tests.support.small_task import TASK, context, part

sizes = st.tuples(st.integers(5, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 9999))


def features(size: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    n, p, q, seed = size
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator)
    return x, torch.randn(n, q, generator=generator) + x[:, :1]


@given(sizes)
@settings(max_examples=40)
def test_cka_is_the_normalised_hsic_of_centred_gram_matrices(size: tuple[int, int, int, int]) -> None:
    x, y = features(size)
    n = len(x)
    centring = np.eye(n) - 1 / n

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ a.T @ centring @ b @ b.T @ centring))

    a, b = x.double().numpy(), y.double().numpy()
    assert cka(x, y) == pytest.approx(hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)), rel=1e-9)
    assert cka(x, y) == pytest.approx(cka(y, x)) and -1e-9 <= cka(x, y) <= 1 + 1e-9


@given(st.tuples(st.integers(4, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9999)))
@settings(max_examples=15)
def test_unbiased_hsic_is_the_u_statistic_over_distinct_quadruples(size: tuple[int, int, int, int]) -> None:
    x, y = features(size)
    k, g = (x.double() @ x.double().T).numpy(), (y.double() @ y.double().T).numpy()

    def u_statistic(a: np.ndarray, b: np.ndarray) -> float:
        terms = [a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in itertools.permutations(range(len(a)), 4)]
        return float(np.mean(terms))

    own, other = max(u_statistic(k, k), 0.0), max(u_statistic(g, g), 0.0)
    want = u_statistic(k, g) / np.sqrt(own * other) if own * other > 0 else 0.0
    assert cka_unbiased(x, y) == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_cka_knows_rotations_from_unrelated_features() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 40, generator=generator)
    rotation = torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q
    assert cka(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-5)
    assert cka_unbiased(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-5)
    unrelated = torch.randn(300, 200, generator=generator)
    assert cka(x, unrelated) > 0.15, "the bias that the unbiased form is there for"
    assert abs(cka_unbiased(x, unrelated)) < 0.03
    assert cka(x, torch.ones(300, 3)) == cka_unbiased(x, torch.ones(300, 3)) == 0


def test_entropy_is_scipys() -> None:
    rows = torch.randn(20, 7, generator=torch.Generator().manual_seed(1)) * 4
    assert entropy(rows) == pytest.approx(float(scipy_entropy(rows.double().softmax(1).numpy(), axis=1).mean()))


@pytest.mark.parametrize(
    ("thief", "shared"),
    [
        ("efficientnet_lite0", True),
        pytest.param("efficientnet_lite0_full", True, marks=pytest.mark.slow),
        ("resnet10t", False),
    ],
)
def test_trunks_are_compared_as_they_were_before_training(thief: str, shared: bool, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    victim = part("victim", "victim=efficientnet_lite0")
    learner = part("thief", f"thief={thief}", "recipes.full.epochs=1")
    stolen = learner.fit(
        TASK.train, np.arange(20), torch.from_numpy(TASK.train.labels[:20]), 3, torch.nn.functional.cross_entropy,
        ctx, stage="thief", scratch=ctx.scratch("thief"),
    )  # fmt: skip
    made = victim.prepare(TASK, ctx)
    ids = np.arange(len(TASK.test))
    both = (logits(made.model, TASK.test, ids, ctx), logits(stolen, TASK.test, ids, ctx))
    found = Similarity().run(Pair(made, stolen, (victim, learner), TASK, ctx, both), ctx).values
    assert (found["test/trunk_cka"] > 0.9999) is shared
    assert (found["test/cka"] > 0.9999) is (thief == "efficientnet_lite0"), "only a frozen trunk stays the same"
    assert found["test/victim_entropy"] == pytest.approx(entropy(both[0]))


def test_what_is_not_a_classifier_is_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    victim, thief = part("victim", "victim=resnet10t"), part("thief", "thief=resnet10t")
    rows = torch.zeros(len(TASK.test), 3)
    pair = Pair(Victim("v", victim.build(3)), torch.nn.Flatten(), (victim, thief), TASK, ctx, (rows, rows))
    with pytest.raises(AttackError, match="not a Flatten"):
        Similarity().run(pair, ctx)
    with pytest.raises(ConfigError, match=r"similarity\.images must be at least 4"):
        Similarity(images=3)
