from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.knockoff import Knockoff
from fmsteal.attacks.losses import hard_cross_entropy, soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.data.images import Images
from fmsteal.errors import ConfigError
from fmsteal.oracle.oracle import Budget


@given(st.integers(1, 9), st.integers(2, 8), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_losses_and_gradients_against_plain_loops(n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator, requires_grad=True)
    answers = torch.rand(n, classes, generator=generator)  # rows need not sum to 1
    plain = torch.zeros(())
    for z, y in zip(logits, answers, strict=True):
        denominator = sum(torch.exp(v) for v in z)
        for zk, yk in zip(z, y, strict=True):
            plain = plain - yk * torch.log(torch.exp(zk) / denominator) / n
    loss = soft_cross_entropy(logits, answers)
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(plain, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hard_cross_entropy(logits, answers), F.cross_entropy(logits, answers.argmax(1)))


def test_both_losses_agree_on_labels() -> None:
    logits, answers = torch.randn(5, 4), F.one_hot(torch.tensor([0, 3, 1, 1, 2]), 4).float()
    torch.testing.assert_close(soft_cross_entropy(logits, answers), hard_cross_entropy(logits, answers))


@given(st.integers(1, 300), st.integers(0, 50), st.data())
@settings(max_examples=40, deadline=None)
def test_random_choices_are_distinct_and_nested(pool: int, seed: int, data: st.DataObject) -> None:
    large = data.draw(st.integers(0, pool))
    small = data.draw(st.integers(0, large))
    ids = random(pool, large, seed)
    assert len(set(ids.tolist())) == large and all(0 <= i < pool for i in ids)
    np.testing.assert_array_equal(random(pool, small, seed), ids[:small])


def test_seeds_choose_differently_and_evenly() -> None:
    counts = np.zeros(50)
    for seed in range(400):
        counts[random(50, 10, seed)] += 1
    assert not np.array_equal(random(50, 10, 0), random(50, 10, 1))
    assert counts.min() > 45 and counts.max() < 120  # mean 80, standard deviation 8


def test_a_budget_larger_than_the_pool_is_refused() -> None:
    pool = Images(np.zeros((10, 3, 4, 4), np.uint8), "pool")
    attack = Knockoff(random, soft_cross_entropy)
    attack.check(Budget(10), pool)
    with pytest.raises(ConfigError, match=r"budget is 11 queries, but the query set holds 10.*query.count"):
        attack.check(Budget(11), pool)
