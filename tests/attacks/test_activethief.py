"""ActiveThief as configured: what it asks and pays for, round by round, and how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks.activethief import ActiveThief
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.attacks.strategies import Round, by_chance, by_entropy, by_kcenter
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from fmsteal.data.images import Ids, Images
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.attacks.brightest_api import POOL, Brightest, recorded, thief_of
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context

STRATEGIES = ("random", "entropy", "margin", "kcenter", "dfal", "dfal_kcenter", "dfal_code", "dfal_kcenter_code")


def oracle_for(ctx: Context, queries: int) -> Oracle:
    return in_front_of(Victim("brightest", Brightest(), "probabilities"), POOL, ctx, queries)


def active(*overrides: str) -> Any:
    return build.make(composed("attack=activethief", *overrides).attack)


@pytest.mark.parametrize(
    "strategy", [pytest.param(name, marks=pytest.mark.slow if "code" in name else ()) for name in STRATEGIES]
)
def test_each_strategy_spends_the_budget_on_different_images(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    fewer = ["attack.strategy.candidates=15", "attack.strategy.steps=3"] if "dfal" in strategy else []
    attack = active(f"attack/strategy={strategy}", "attack.rounds=2", "attack.seed_share=0.3", *fewer)
    oracle = oracle_for(ctx, 23)
    calls = recorded(oracle, monkeypatch)
    attack.check(oracle.budget, POOL)
    thief = attack.run(oracle, POOL, thief_of(ctx))
    assert [len(ids) for ids in calls] == [7, 4, 6, 6]  # the seed set, the held-out part (23 / 5), two rounds
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == 23 == len(set(chain(*calls)))
    assert thief(torch.rand(2, 3, 16, 16)).shape == (2, 3) and not thief.training
    stages = {"thief"} if strategy == "random" else {"thief", "thief-round-1", "thief-round-2"}
    assert {p.name for p in (tmp_path / "work").iterdir()} == stages | {"kept"}


@pytest.mark.parametrize("validation", [0, 0.2])
def test_at_random_it_asks_what_a_knockoff_asks(
    validation: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path)
    oracle = oracle_for(ctx, 30)
    calls = recorded(oracle, monkeypatch)
    active("attack/strategy=random", f"attack.validation={validation}").run(oracle, POOL, thief_of(ctx))
    assert list(chain(*calls)) == random(60, 30, ctx.seed).tolist()


@given(st.integers(1, 400), st.integers(1, 20), st.floats(0.001, 1), st.floats(0, 1, exclude_max=True))
@settings(max_examples=200)
def test_every_schedule_adds_up_to_the_budget(queries: int, rounds: int, share: float, validation: float) -> None:
    attack = ActiveThief(random, by_chance, soft_cross_entropy, rounds, share, validation)
    held, (first, *further) = attack.schedule(queries)
    assert held + first + sum(further) == queries and min([first, *further]) > 0
    assert held == min(int(validation * queries), max(0, queries - 2)) and first >= min(2, queries)
    assert len(further) == min(rounds, queries - held - first)
    assert not further or max(further) - min(further) <= 1
    assert first in (2, queries - held) or abs(first - share * queries) <= 0.5


def test_the_smallest_seed_set_can_be_trained_on(tmp_path: Path) -> None:
    oracle = oracle_for(context(tmp_path), 8)  # a tenth of it is not one image, of which BatchNorm learns nothing
    active("attack.rounds=2").run(oracle, POOL, thief_of(context(tmp_path)))
    assert oracle.used == 8


class Guess(AttackContext):
    """A context whose thief is never trained: it guesses, another way for each training set."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit_thief(
        self, pool: Images, ids: Ids, answers: Tensor, loss: Any, stage: str = "thief", held_out: Any = None
    ) -> nn.Module:
        assert len(ids) == len(answers)
        assert held_out is None or not set(held_out.ids) & set(ids)
        return nn.Linear(len(ids), 3)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        return make()

    def logits(self, model: nn.Module, pool: Images, ids: Ids) -> Tensor:
        weight = model.in_features  # type: ignore[union-attr]
        return torch.from_numpy(np.sin(np.outer(ids + 1.0, weight * np.arange(1, 4))))


class Free:
    """An oracle that only counts."""

    def __init__(self, queries: int) -> None:
        self.budget, self.asked = Budget(queries), list[int]()

    def ask(self, ids: Ids, client: int = 0) -> Tensor:
        self.asked += ids.tolist()
        assert len(self.asked) <= self.budget.queries
        return torch.full((len(ids), 3), 1 / 3)


@given(
    st.integers(1, 60),
    st.integers(1, 12),
    st.floats(0.01, 1),
    st.floats(0, 0.9),
    st.integers(0, 5),
    st.sampled_from([by_chance, by_entropy, by_kcenter]),
)
@settings(max_examples=60)
def test_no_schedule_asks_past_its_budget_or_twice(
    queries: int, rounds: int, share: float, validation: float, seed: int, strategy: Any
) -> None:
    oracle: Any = Free(queries)
    ActiveThief(random, strategy, soft_cross_entropy, rounds, share, validation).run(oracle, POOL, Guess(seed))
    assert len(oracle.asked) == len(set(oracle.asked)) == queries


@pytest.mark.slow
def test_a_kill_in_the_second_round_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    attack = active("attack/strategy=entropy", "attack.rounds=3", "attack.seed_share=0.2")
    through = context(tmp_path / "through")
    whole = oracle_for(through, 20)
    wanted = recorded(whole, monkeypatch)
    thief = attack.run(whole, POOL, thief_of(through))

    ctx = context(tmp_path / "killed")
    dying = thief_of(ctx)
    fit = dying.fit_thief

    def until_the_second(*args: Any) -> nn.Module:
        if args[4] == "thief-round-2":
            raise Killed
        return fit(*args)

    monkeypatch.setattr(dying, "fit_thief", until_the_second)
    with pytest.raises(Killed):
        attack.run(oracle_for(ctx, 20), POOL, dying)
    again = oracle_for(ctx, 20)
    assert again.used == 12  # the seed set, the held-out part and one round
    calls, theirs, trained = recorded(again, monkeypatch), thief_of(ctx), list[str]()
    fit_again = theirs.fit_thief

    def noted(*args: Any, **more: Any) -> nn.Module:
        trained.append(args[4] if len(args) > 4 else "thief")
        return fit_again(*args, **more)

    monkeypatch.setattr(theirs, "fit_thief", noted)
    resumed = attack.run(again, POOL, theirs)
    assert calls == wanted and again.used == 20
    assert trained == ["thief-round-2", "thief-round-3", "thief"]  # what the first chose is kept
    for name, weight in thief.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=0, atol=0)


def twice_the_same(round: Round, count: int) -> Ids:
    return round.unasked[:1].repeat(count)


def what_was_asked(round: Round, count: int) -> Ids:
    return round.asked[:count]


def too_few(round: Round, count: int) -> Ids:
    return round.unasked[: count - 1]


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        (twice_the_same, "chose 5 images, 1 of them different and not asked about yet, where 5 were due"),
        (what_was_asked, "chose 5 images, 0 of them"),
        (too_few, "chose 4 images, 4 of them"),
    ],
)
def test_a_strategy_that_would_waste_questions_is_stopped(strategy: Any, says: str) -> None:
    oracle: Any = Free(20)
    with pytest.raises(AttackError, match=says):
        ActiveThief(random, strategy, soft_cross_entropy, 2, 0.5, 0).run(oracle, POOL, Guess(0))
    assert len(oracle.asked) == 10


def test_what_cannot_work_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="query set holds 60 images"):
        active().check(Budget(61), POOL)
    with pytest.raises(ConfigError, match=r"attack\.rounds"):
        active("attack.rounds=0")
    with pytest.raises(ConfigError, match=r"attack\.seed_share"):
        active("attack.seed_share=0")
    with pytest.raises(ConfigError, match=r"attack\.patience=3 has no effect"):
        active("attack.patience=3", "attack.validation=0")
    for wrong in ("attack.validation=1", "attack.validation=-0.1", "attack.patience=0"):
        with pytest.raises(ConfigError, match=r"attack\.validation"):
            active(wrong)
