"""The adaptive policy of Knockoff Nets: its update and its rewards by hand, and against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fmsteal.attacks.bandit import AdaptiveKnockoff, Bandit, BanditLearner, Shelves, make_thumbnails
from fmsteal.attacks.bandit_rewards import Reward, Rewards
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.strategies import margin
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget
from fmsteal.training.classifier import soft_cross_entropies
from tests.support.colour_api import CLASSES, POOL, QUICK, killed_and_again, oracle_for, same_weights, steal
from tests.support.composing import composed
from tests.support.small_task import context

KINDS = get_args(Reward)
LABELS = np.arange(len(POOL)) % 5
LABELLED = replace(POOL, digest="labelled", labels=LABELS * 2, classes=[str(c) for c in range(9)])  # some classes empty


def test_two_updates_by_hand() -> None:
    bandit, everything = Bandit(3), np.ones(3, bool)
    np.testing.assert_allclose(bandit.policy(everything), 1 / 3)
    bandit.update(1, 0.6, everything)  # N = 1: +.6 * 2/3, the others -.6 / 3
    np.testing.assert_allclose(bandit.preferences, [-0.2, 0.4, -0.2])
    chances = np.array([math.exp(-0.2), math.exp(0.4), math.exp(-0.2)])
    chances /= chances.sum()  # .2615, .4770, .2615
    np.testing.assert_allclose(bandit.policy(everything), chances)
    bandit.update(1, -1.0, everything)  # N = 2
    np.testing.assert_allclose(
        bandit.preferences, [-0.2 + chances[0] / 2, 0.4 - (1 - chances[1]) / 2, -0.2 + chances[2] / 2]
    )
    assert bandit.drawn.tolist() == [0, 2, 0]


@given(st.integers(2, 6), st.lists(st.floats(-2, 2), min_size=1, max_size=30), st.integers(0, 99))
@settings(max_examples=50)
def test_updates_against_a_plain_loop(arms: int, advantages: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    bandit, plain, counts = Bandit(arms), [0.0] * arms, [0] * arms
    for advantage in advantages:
        open_ = random.random(arms) < 0.7
        drawn = int(random.integers(arms))
        open_[drawn] = True
        bandit.update(drawn, advantage, open_)
        counts[drawn] += 1
        total = sum(math.exp(plain[a]) for a in range(arms) if open_[a])
        chances = [math.exp(plain[a]) / total if open_[a] else 0.0 for a in range(arms)]
        for a in range(arms):
            plain[a] += advantage / counts[drawn] * ((1 - chances[a]) if a == drawn else -chances[a])
    np.testing.assert_allclose(bandit.preferences, plain, rtol=1e-9, atol=1e-9)


def test_rewards_of_three_answers_by_hand() -> None:
    answers = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]])
    torch.testing.assert_close(margin(answers), torch.tensor([0.5, 0.7, 0.0]))
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]).log()
    losses = soft_cross_entropies(logits, answers)
    assert float(losses[0]) == pytest.approx(-(0.7 * math.log(0.5) + 0.2 * math.log(0.3) + 0.1 * math.log(0.2)))

    def advantages(kinds: tuple[Any, ...], window: int = 25) -> list[float]:
        rewards = Rewards(kinds, window)
        return [
            rewards.advantage(a.numpy(), {"certainty": float(c), "loss": float(v)})
            for a, c, v in zip(answers, margin(answers), losses, strict=True)
        ]

    assert advantages(("certainty",)) == pytest.approx([0, 0.7 - 0.6, 0 - 0.4])
    assert advantages(("certainty",), window=2) == pytest.approx([0, 0.1, 0 - 0.35])
    # means: (.7, .2, .1), (.4, .5, .1), (.4, .4667, .1333); above them: 0, .3, .0667
    assert advantages(("diversity",)) == pytest.approx([0, 0.3 - 0.15, 1 / 15 - (0.3 + 1 / 15) / 3], abs=1e-6)
    assert advantages(("loss",))[1] == pytest.approx(float(losses[1] - losses[0]) / 2)
    # all: each over its range, which of the second answer makes them (1 - 1/2) or (0 - 1/2)
    sign = 1 if losses[1] > losses[0] else -1
    assert advantages(KINDS)[:2] == pytest.approx([0, (0.5 + 0.5 + sign * 0.5) / 3])


@given(st.integers(1, 40), st.integers(2, 7), st.integers(0, 99))
@settings(max_examples=40)
def test_all_rewards_against_a_plain_loop(n: int, window: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = random.dirichlet(np.ones(4), n).astype(np.float32)
    sure, lost = random.random(n), 9 * random.random(n)
    rewards = Rewards(KINDS, window)
    diverse: list[float] = []
    for t in range(n):
        got = rewards.advantage(answers[t], {"certainty": sure[t], "loss": lost[t]})
        first = max(0, t - window + 1)
        means = [sum(float(answers[s, k]) for s in range(first, t + 1)) / (t + 1 - first) for k in range(4)]
        diverse.append(sum(max(0.0, float(answers[t, k]) - means[k]) for k in range(4)))
        total = 0.0
        for series in (sure, diverse, lost):
            past = [float(series[s]) for s in range(first, t + 1)]
            low, high = min(past), max(past)
            if high > low:
                scaled = [(value - low) / (high - low) for value in past]
                total += scaled[-1] - sum(scaled) / len(scaled)
        assert got == pytest.approx(total / 3, abs=1e-9)


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
def test_answers_that_are_all_alike_are_worth_nothing(kinds: tuple[Any, ...]) -> None:
    rewards = Rewards(kinds, 25)
    for _ in range(30):
        advantage = rewards.advantage(np.array([0.9, 0.1], np.float32), {"certainty": 0.8, "loss": 0.3})
        assert advantage == pytest.approx(0, abs=1e-12)


def test_the_arm_that_pays_is_drawn_more_and_more() -> None:
    random, bandit, rewards = np.random.default_rng(0), Bandit(4), Rewards(("certainty",), 25)
    shelves = Shelves(np.arange(4000) % 4, random)
    arms = []
    for _ in range(600):
        ((arm, image),) = shelves.draw(bandit, 1, random)
        assert image % 4 == arm
        arms.append(arm)
        paid = random.normal(1.0 if arm == 2 else 0.0, 0.1)
        advantage = rewards.advantage(np.ones(1, np.float32), {"certainty": paid})
        bandit.update(arm, advantage, shelves.open)
    assert np.mean(np.array(arms[300:]) == 2) > 0.6 > np.mean(np.array(arms[:20]) == 2)


def test_an_empty_arm_is_not_drawn_and_no_image_twice() -> None:
    random = np.random.default_rng(0)
    shelves, bandit = Shelves(np.array([0, 1, 1, 2, 2, 2]), random), Bandit(3)
    bandit.preferences[:] = [800, 0, -800]  # as good as certain, and too much for exp
    drawn = shelves.draw(bandit, 6, random)
    assert [arm for arm, _ in drawn] == [0, 1, 1, 2, 2, 2]
    assert sorted(image for _, image in drawn) == list(range(6)) and not shelves.open.any()


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(0, 99),
)
@settings(max_examples=60)
def test_draws_are_those_of_a_choice_at_a_time(arms: list[int], counts: list[int], seed: int) -> None:
    present = np.unique(arms, return_inverse=True)[1].astype(np.int64)
    bandit, random, other = Bandit(int(present.max()) + 1), np.random.default_rng(seed), np.random.default_rng(seed)
    shelves, plain = Shelves(present, random), Shelves(present, other)
    for count in counts:
        count = min(count, sum(map(len, plain.ids)))
        bandit.preferences[:] = np.random.default_rng((seed, count)).normal(0, 3, len(bandit.preferences))
        wanted = []
        for _ in range(count):
            left = np.array([bool(ids) for ids in plain.ids])
            arm = int(other.choice(len(left), p=bandit.policy(left)))
            wanted.append((arm, plain.ids[arm].pop()))
        if count:
            assert shelves.draw(bandit, count, random) == wanted
        assert shelves.open.tolist() == [bool(ids) for ids in plain.ids]


@pytest.mark.parametrize(
    ("queries", "overrides"),
    [
        (1 + 16, ("attack.batch=1", "attack.reward=certainty")),
        (20, ("attack.batch=6",)),
        (80, ("attack.batch=32", "attack.reward=loss")),  # the whole pool
    ],
)
def test_the_budget_is_used_up_and_no_image_asked_about_twice(
    queries: int, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    thief, oracle = steal(tmp_path, queries, "attack=knockoff_adaptive", *overrides, pool=LABELLED)
    ledger = Ledger(tmp_path / "ledger.bin", "job")
    assert oracle.used == len(ledger) == queries
    assert all(question.nth == 0 for question in ledger)
    assert thief.head.out_features == CLASSES and not thief.training


def test_a_killed_attack_asks_the_same_again(tmp_path: Path) -> None:
    whole, again = killed_and_again(tmp_path, 24, 10, "attack=knockoff_adaptive", "attack.batch=5")
    assert same_weights(whole, again)


def made(**options: Any) -> AdaptiveKnockoff:
    return AdaptiveKnockoff(loss=soft_cross_entropy, **options)


def theirs(folder: Path, *overrides: str) -> AttackContext:
    return AttackContext(build.make(composed(*QUICK, *overrides).thief), context(folder))


def test_arms_are_labels_or_clusters_of_what_looks_alike(tmp_path: Path) -> None:
    ctx = theirs(tmp_path)
    np.testing.assert_array_equal(made().arms_of(LABELLED, ctx), LABELS)
    bright = np.arange(60) % 3
    pixels = (bright * 100)[:, None, None, None] + np.random.default_rng(0).integers(0, 9, (60, 3, 16, 16))
    pool = Images(pixels.astype(np.uint8), "three")
    for of in ("pixels", "features"):
        arms = made(clusters=3, arms=of).arms_of(pool, ctx)
        assert len({(a, b) for a, b in zip(arms, bright, strict=True)}) == len(set(arms)) == 3, of
    assert set(made(clusters=200).arms_of(pool, ctx)) <= set(range(60))


def test_thumbnails_are_means_of_blocks() -> None:
    small = make_thumbnails(POOL)
    assert small.shape == (80, 192)
    wanted = np.array(POOL.pixels[7], np.float64)[1, 4:6, 10:12].mean() / 255  # block (2, 5) of 8 x 8, green
    assert small[7].reshape(3, 8, 8)[1, 2, 5] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("thief", "batch"), [("resnet10t", 8), ("resnet10t", 1), ("efficientnet_lite0", 3)])
def test_a_thief_learns_on_the_way(thief: str, batch: int, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    overrides = QUICK if thief == "resnet10t" else (f"thief={thief}", "thief.backbone.size=32")
    learner = BanditLearner(made(lr=0.05), AttackContext(build.make(composed(*overrides).thief), ctx), POOL, CLASSES)
    trunk = {k: v.clone() for k, v in learner.model.backbone.state_dict().items()}
    ids = np.arange(batch)
    answers = oracle_for(ctx, batch).ask(ids)
    before = soft_cross_entropies(learner.logits(ids), answers).mean()
    for _ in range(12):
        learner.learn(ids, answers)
    assert soft_cross_entropies(learner.logits(ids), answers).mean() < before
    unmoved = all(torch.equal(v, trunk[k]) for k, v in learner.model.backbone.state_dict().items())
    assert unmoved == (thief == "efficientnet_lite0")


def test_the_loss_is_that_of_the_thief_before_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, list[int]]] = []
    for name in ("logits", "learn"):
        method = getattr(BanditLearner, name)

        def spied(self: BanditLearner, ids: Any, *more: Any, name: str = name, method: Any = method) -> Any:
            order.append((name, ids.tolist()))
            return method(self, ids, *more)

        monkeypatch.setattr(BanditLearner, name, spied)
    ctx = theirs(tmp_path)
    fitted: list[Any] = []
    monkeypatch.setattr(ctx, "fit_thief", lambda *given: fitted.append(given) or nn.Identity())
    made(batch=4).run(oracle_for(context(tmp_path), 10), POOL, ctx)
    assert [name for name, _ in order] == ["logits", "learn"] * 2 + ["logits"]  # it need not learn of the last
    assert [len(ids) for _, ids in order[::2]] == [4, 4, 2]
    assert all(order[i][1] == order[i + 1][1] for i in (0, 2))
    _, ids, answers, _ = fitted[0]
    assert ids.tolist() == [i for _, some in order[::2] for i in some]
    again = oracle_for(context(tmp_path / "again"), 10).ask(ids)
    torch.testing.assert_close(answers, again, rtol=1e-5, atol=1e-6)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="query set holds 80 images"):
        made().check(Budget(81), POOL)
    for option in ({"batch": 0}, {"window": 1}, {"clusters": 1}):
        with pytest.raises(ConfigError, match=rf"attack\.{next(iter(option))}"):
            made(**option)
