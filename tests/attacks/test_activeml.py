"""scikit-activeml's own strategies, given a thief: each chooses within the rules, and as the formula it is known by."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.attacks import activeml
from fmsteal.attacks.activeml import ActiveML
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.strategies import Round, by_entropy, by_margin
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from tests.support import colour_api
from tests.support.composing import composed
from tests.support.small_task import context


@pytest.fixture
def installed() -> None:
    pytest.importorskip("skactiveml")


def a_round(folder: Path, asked: int = 12) -> Round:
    """A round of a tiny thief, untrained, and of answers that are as random."""
    ctx = AttackContext(build.make(composed(*colour_api.QUICK).thief), context(folder))
    thief = ctx.untrained(colour_api.CLASSES).model
    with torch.no_grad():
        thief.head.weight.normal_(generator=torch.Generator().manual_seed(3)).mul_(3)  # so that it is sure of some
    order = np.random.default_rng(1).permutation(80)
    answers = torch.rand(asked, colour_api.CLASSES, generator=torch.Generator().manual_seed(2)).softmax(1)
    random = np.random.default_rng(0)
    return Round(colour_api.POOL, order[:asked], order[asked:], lambda: thief.eval(), ctx, random, answers)


def test_entropy_and_margin_are_ours(installed: None, tmp_path: Path) -> None:
    for method, ours in (("entropy", by_entropy), ("margin_sampling", by_margin)):
        round = a_round(tmp_path)
        found = ActiveML("UncertaintySampling", {"method": method})(round, 9)
        np.testing.assert_array_equal(np.sort(found), np.sort(ours(round, 9)))


def test_coreset_is_greedy_kcenter_on_the_thiefs_features(installed: None, tmp_path: Path) -> None:
    round = a_round(tmp_path)
    found = ActiveML("CoreSet")(round, 6)
    x = round.ctx.features(round.thief, round.pool, np.arange(80)).numpy()  # type: ignore[arg-type]
    covered = list(round.asked)
    for pick in found:
        nearest = np.linalg.norm(x[round.unasked][:, None] - x[covered], axis=2).min(axis=1)
        own = np.linalg.norm(x[pick] - x[covered], axis=1).min()
        assert own == pytest.approx(nearest.max(), rel=1e-4)
        covered.append(pick)


def test_each_strategy_chooses_distinct_unasked_images_and_the_same_again(installed: None, tmp_path: Path) -> None:
    names = list(activeml._strategies())
    assert {"UncertaintySampling", "Badge", "CoreSet", "TypiClust", "ProbCover", "Falcun", "RandomSampling"} <= set(
        names
    )
    for name in names:
        picks = [ActiveML(name)(a_round(tmp_path), 5) for _ in range(2)]
        assert len(set(picks[0].tolist())) == 5 and np.isin(picks[0], a_round(tmp_path).unasked).all(), name
        np.testing.assert_array_equal(*picks, err_msg=name)


def test_it_chooses_for_activethief(installed: None, tmp_path: Path) -> None:
    words = ("attack=activethief", "attack/strategy=activeml", "attack.strategy.name=Badge", "attack.rounds=2")
    _, oracle = colour_api.steal(tmp_path, 40, *words)
    assert oracle.used == 40


def test_a_wrong_name_or_option_is_named_with_what_there_is(installed: None) -> None:
    with pytest.raises(ConfigError, match=r"name=Nonsense is no strategy .*There are: .*CoreSet.*UncertaintySampling"):
        ActiveML("Nonsense")
    for name in ("QueryByCommittee", "MonteCarloEER", "ProbabilisticAL", "SubSamplingWrapper"):
        with pytest.raises(ConfigError, match="that a thief can be given to"):
            ActiveML(name)
    with pytest.raises(ConfigError, match=r"options\.temperature: UncertaintySampling has no .* It takes: method"):
        ActiveML("UncertaintySampling", {"temperature": 2})


def test_a_thief_without_a_last_layer_is_refused(installed: None, tmp_path: Path) -> None:
    round = a_round(tmp_path)
    bare = Round(round.pool, round.asked, round.unasked, nn.Identity, round.ctx, round.random, round.answers)
    with pytest.raises(AttackError, match="a classifier's last layer"):
        ActiveML()(bare, 3)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    activeml._strategies.cache_clear()
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(ConfigError, match=r"pip install 'fmsteal\[activeml\]'"):
        ActiveML()
    activeml._strategies.cache_clear()
