from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.activethief import ActiveThief
from fmsteal.attacks.copycat import Copycat
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.attacks.losses import SharpenedLoss, TemperatureLoss, hard_cross_entropy, soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.attacks.smoothing import Smoothing
from fmsteal.attacks.strategies import by_chance
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Budget
from fmsteal.training.held_out import HeldOut
from fmsteal.victims.base import Victim
from tests.attacks.brightest_api import POOL, Brightest, recorded, thief_of
from tests.support.an_api import in_front_of
from tests.support.small_task import context


@given(st.integers(1, 9), st.integers(2, 8), st.integers(0, 999))
@settings(max_examples=40)
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


@given(st.integers(1, 9), st.integers(2, 8), st.sampled_from([1.0, 4.0, 100.0]), st.integers(0, 999))
@settings(max_examples=40)
def test_the_softened_divergence_against_scipy(n: int, classes: int, temperature: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, answers = random.normal(size=(n, classes)) * 3, random.dirichlet(np.ones(classes), n)
    answers[random.random(answers.shape) < 0.3] = 0  # as an API that tells its top k alone
    answers[:, 0] += 0.1
    with np.errstate(divide="ignore"):
        softened = scipy.special.softmax(np.log(answers) / temperature, axis=1)
    thief = scipy.special.softmax(logits / temperature, axis=1)
    wanted = temperature**2 * scipy.special.rel_entr(softened, thief).sum(axis=1).mean()
    z = torch.from_numpy(logits).requires_grad_()
    loss = TemperatureLoss(temperature)(z, torch.from_numpy(answers))
    torch.testing.assert_close(loss.item(), wanted, rtol=1e-8, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(gradient.numpy(), temperature * (thief - softened) / n, rtol=1e-8, atol=1e-9)


def test_a_temperature_of_one_is_soft_cross_entropy_but_for_the_answers_entropy() -> None:
    logits, answers = torch.randn(6, 5, dtype=torch.float64), torch.rand(6, 5, dtype=torch.float64).softmax(1)
    entropy = torch.special.entr(answers).sum(1).mean()
    torch.testing.assert_close(TemperatureLoss(1.0)(logits, answers), soft_cross_entropy(logits, answers) - entropy)


def test_a_high_temperature_compares_log_probabilities_and_a_row_of_zeros_says_nothing() -> None:
    logits, answers = torch.randn(1, 5, dtype=torch.float64), torch.rand(1, 5, dtype=torch.float64).softmax(1)
    apart = answers.log() - logits
    torch.testing.assert_close(
        TemperatureLoss(1e4)(logits, answers), (apart - apart.mean()).square().mean() / 2, rtol=1e-3, atol=0
    )
    both, zeros = torch.cat([logits, logits]).requires_grad_(), torch.zeros_like(answers)
    loss = TemperatureLoss()(both, torch.cat([answers, zeros]))
    torch.testing.assert_close(loss.detach(), TemperatureLoss()(logits, answers) / 2)
    (gradient,) = torch.autograd.grad(loss, both)
    assert gradient[0].abs().sum() > 0 and not gradient[1].any()
    with pytest.raises(ConfigError, match=r"attack\.loss\.temperature must be above 0, not 0"):
        TemperatureLoss(0.0)


@given(st.integers(1, 9), st.integers(2, 8), st.sampled_from([1.0, 0.5, 0.1]), st.integers(0, 999))
@settings(max_examples=40)
def test_the_sharpened_cross_entropy_against_numpy(n: int, classes: int, temperature: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, answers = random.normal(size=(n, classes)) * 3, random.dirichlet(np.ones(classes), n)
    answers[random.random(answers.shape) < 0.3] = 0  # as an API that tells its top k alone
    answers[:, 0] += 0.1
    powers = answers ** (1 / temperature)
    sharp = powers / powers.sum(axis=1, keepdims=True)
    wanted = -(sharp * scipy.special.log_softmax(logits, axis=1)).sum(axis=1).mean()
    loss = SharpenedLoss(temperature)(torch.from_numpy(logits), torch.from_numpy(answers))
    torch.testing.assert_close(loss.item(), wanted, rtol=1e-8, atol=1e-9)


def test_the_sharpest_answer_is_its_label_and_a_row_of_zeros_says_nothing() -> None:
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(6, 5)))
    answers = torch.from_numpy(random.permuted(np.tile([0.1, 0.15, 0.2, 0.25, 0.3], (6, 1)), axis=1))  # no near ties
    torch.testing.assert_close(SharpenedLoss(1e-4)(logits, answers), hard_cross_entropy(logits, answers))
    both = torch.cat([logits, logits])
    loss = SharpenedLoss()(both, torch.cat([answers, torch.zeros_like(answers)]))
    torch.testing.assert_close(loss, SharpenedLoss()(logits, answers) / 2)
    for wrong in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"attack\.loss\.temperature must be above 0 and at most 1"):
            SharpenedLoss(wrong)


@given(st.integers(1, 300), st.integers(0, 50), st.data())
@settings(max_examples=40)
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


VALIDATION: dict[str, Any] = {"validation": 0.2, "by": "macro_f1", "every": 2}
HELD = {
    "knockoff": (Knockoff(random, hard_cross_entropy, **VALIDATION), 20, 1),
    "copycat": (Copycat(random, hard_cross_entropy, **VALIDATION), 20, 1),
    "smoothing": (Smoothing(random, soft_cross_entropy, repeats=2, **VALIDATION), 40, 2),
}


@pytest.mark.parametrize("name", HELD)
def test_a_share_is_held_out_asked_and_paid_for_but_not_trained_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, queries, asks = HELD[name]
    ctx = context(tmp_path)
    victim = Victim("brightest", Brightest(), "probabilities")
    oracle, thief = in_front_of(victim, POOL, ctx, queries), thief_of(ctx)
    calls, fitted = recorded(oracle, monkeypatch), []
    fit = thief.fit_thief

    def listening(pool: Images, ids: Any, answers: Any, loss: Any, held_out: HeldOut) -> Any:
        fitted.append((ids, held_out))
        return fit(pool, ids, answers, loss, held_out=held_out)

    monkeypatch.setattr(thief, "fit_thief", listening)
    attack.check(oracle.budget, POOL)
    attack.run(oracle, POOL, thief)
    ((trained, held_out),) = fitted
    chosen = random(60, 20, ctx.seed)
    assert oracle.used == queries == asks * 20
    assert sorted(chain(*calls)) == sorted(chosen.tolist() * asks)
    assert set(trained.tolist()) <= set(chosen[:16].tolist()) and held_out.ids.tolist() == chosen[16:].tolist()
    images = torch.from_numpy(np.array(POOL.pixels[held_out.ids]))
    torch.testing.assert_close(held_out.answers, Brightest()(images).softmax(1), rtol=1e-4, atol=1e-4)
    assert (held_out.by, held_out.every) == ("macro_f1", 2)


@pytest.mark.parametrize(
    "attack",
    [
        Knockoff(random, soft_cross_entropy, validation=0.1),
        ActiveThief(random, by_chance, soft_cross_entropy, validation=0.1, by="macro_f1"),
    ],
    ids=["knockoff", "activethief"],
)
def test_a_share_too_small_for_the_classes_is_named_before_a_query_is_paid(attack: Any, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    oracle = in_front_of(Victim("brightest", Brightest(), "probabilities"), POOL, ctx, 20)
    with pytest.raises(ConfigError, match=r"validation=0.1 holds out 2 images, but the API knows 3 classes"):
        attack.run(oracle, POOL, thief_of(ctx))
    assert oracle.used == 0
