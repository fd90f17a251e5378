"""Selections in a public trunk's features, against plain loops of the papers' formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.selection import find_most_typical, herding, kcenter_features, random, select, typiclust
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.oracle.ledger import Ledger
from fmsteal.training.context import Context
from tests.support import colour_api
from tests.support.composing import composed
from tests.support.small_task import context

FROZEN = ("thief=efficientnet_lite0", "thief.backbone.size=32")
IN_FEATURES = ("kcenter_features", "herding", "typiclust")


def rows(n: int, seed: int, d: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) + 0.5)


@given(st.integers(1, 40), st.integers(0, 99), st.data())
@settings(max_examples=30)
def test_kcenter_takes_the_farthest_each_time(n: int, seed: int, data: st.DataObject) -> None:
    count, x = data.draw(st.integers(1, n)), rows(n, seed)
    picks = kcenter_features(n, count, seed, features=lambda: x)
    assert picks[0] == random(n, 1, seed)[0] and len(set(picks.tolist())) == count
    for place in range(1, count):
        nearest = np.linalg.norm(x.numpy()[:, None] - x.numpy()[picks[:place]], axis=2).min(axis=1)
        assert nearest[picks[place]] == pytest.approx(nearest.max())


@given(st.integers(1, 30), st.integers(0, 99), st.data())
@settings(max_examples=30)
def test_herding_brings_the_mean_closest_each_time(n: int, seed: int, data: st.DataObject) -> None:
    count, x = data.draw(st.integers(1, n)), rows(n, seed)
    picks = herding(n, count, 0, features=lambda: x)
    unit = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    chosen: list[int] = []
    for pick in picks:
        apart = {
            i: np.linalg.norm(unit.mean(axis=0) - unit[[*chosen, i]].mean(axis=0)) for i in range(n) if i not in chosen
        }
        assert apart[int(pick)] == pytest.approx(min(apart.values()))
        chosen.append(int(pick))
    assert len(set(chosen)) == count


@pytest.mark.parametrize("selection", [kcenter_features, herding])
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(selection: object) -> None:
    x = rows(50, 3)
    whole = selection(50, 50, 7, features=lambda: x)  # type: ignore[operator]
    for count in (1, 2, 17, 49):
        np.testing.assert_array_equal(selection(50, count, 7, features=lambda: x), whole[:count])  # type: ignore[operator]
    assert sorted(whole.tolist()) == list(range(50))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("selection", [kcenter_features, typiclust])
def test_equal_images_are_chosen_once_each(selection: object) -> None:
    picks = selection(9, 9, 0, features=lambda: torch.ones(9, 3))  # type: ignore[operator]
    assert sorted(picks.tolist()) == list(range(9))


@given(st.integers(2, 60), st.integers(1, 25), st.integers(0, 99))
@settings(max_examples=30)
def test_typicality_against_scikit_learn(n: int, k: int, seed: int) -> None:
    k, x = min(k, n - 1), torch.nn.functional.normalize(rows(n, seed))
    distances, _ = NearestNeighbors(n_neighbors=k + 1).fit(x.numpy()).kneighbors(x.numpy())
    mean = distances[:, 1:].mean(axis=1)
    assert mean[find_most_typical(x, k)] == pytest.approx(mean.min())


@pytest.mark.parametrize(("n", "count"), [(60, 4), (60, 45), (60, 60), (7, 7), (40, 1)])
def test_typiclust_against_a_plain_loop(n: int, count: int) -> None:
    x = rows(n, 11)
    picks = typiclust(n, count, 5, features=lambda: x, most_clusters=6, smallest=4)
    unit = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    labels = KMeans(min(count, 6), n_init=1, random_state=5).fit_predict(unit)
    sizes = np.bincount(labels)
    clusters = sorted((c for c in range(len(sizes)) if sizes[c] >= 4), key=lambda c: (-sizes[c], c))
    plain: list[int] = []
    turn = 0
    while len(plain) < min(count, sum(sizes[c] for c in clusters)):
        members = np.flatnonzero(labels == clusters[turn % len(clusters)])
        turn += 1
        if not len(members):
            continue
        between = np.linalg.norm(unit[members][:, None] - unit[members], axis=2)
        near = np.sort(between, axis=1)[:, 1 : 1 + min(20, len(members) // 2)]
        pick = members[near.mean(axis=1).argmin()] if near.shape[1] else members[0]
        plain.append(int(pick))
        labels[pick] = -1
    np.testing.assert_array_equal(picks[: len(plain)], plain)
    assert len(set(picks.tolist())) == count


def attack_context(folder: Path, *overrides: str) -> tuple[AttackContext, Context]:
    ctx = context(folder)
    return AttackContext(build.make(composed(*overrides).thief), ctx), ctx


@pytest.mark.parametrize("name", IN_FEATURES)
def test_a_choice_is_as_configured_and_survives_a_kill(name: str, tmp_path: Path) -> None:
    selection = build.make(composed(f"attack/selection={name}").attack.selection)
    attack, ctx = attack_context(tmp_path, *FROZEN)
    ids = select(selection, colour_api.POOL, 9, attack)
    assert ids.dtype == np.int64 and len(set(ids.tolist())) == 9 and (ids < len(colour_api.POOL)).all()
    attack.public_features = None  # type: ignore[assignment, method-assign]
    np.testing.assert_array_equal(select(selection, colour_api.POOL, 9, attack), ids)
    assert ctx.kept("selection", lambda: np.zeros(0)).tolist() == ids.tolist()


def test_a_thief_from_scratch_has_no_public_trunk(tmp_path: Path) -> None:
    for name in IN_FEATURES:
        with pytest.raises(ConfigError, match=r"thief\.adaptation=scratch .*has no public trunk.*thief=\.\.\."):
            colour_api.steal(tmp_path / name, 20, f"attack/selection={name}")
        assert not (tmp_path / name / "ledger.bin").exists() or not (tmp_path / name / "ledger.bin").stat().st_size


@pytest.mark.parametrize("attack", ["knockoff", "activethief_random", "mixmatch", "jbda"])
def test_attacks_ask_first_about_what_was_chosen(attack: str, tmp_path: Path) -> None:
    cfg = composed(*FROZEN, "thief.recipe.epochs=1", f"attack={attack}", "attack/selection=kcenter_features")
    ctx = context(tmp_path)
    made, oracle = AttackContext(build.make(cfg.thief), ctx), colour_api.oracle_for(ctx, 20)
    build.make(cfg.attack).run(oracle, colour_api.POOL, made)
    assert oracle.used == 20
    every = np.arange(len(colour_api.POOL))
    due = kcenter_features(len(every), 2, ctx.seed, features=lambda: made.public_features(colour_api.POOL, every))
    answers = Ledger(ctx.run_dir / "ledger.bin", "job").answers
    torch.testing.assert_close(
        torch.from_numpy(answers[:2]), colour_api.oracle_for(context(tmp_path / "other"), 2).ask(due)
    )
