"""Trunk inference: the right one of trunks made on the spot, or none, and the thief that is kept has that trunk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.attacks.trunk_inference import TrunkInference
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.defenses.base import NoDefense
from fmsteal.defenses.truncation import HardLabel, Rounding
from fmsteal.job import stolen
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.oracle import Budget
from fmsteal.records.folders import TheftFolder
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim
from tests.attacks.linear_api import CLASSES, LAST, POOL, QUICK, TRUNK, a_victim, found, weights
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context

NAMES = ("one", "two", "three")


def specs(folder: Path) -> dict[str, BackboneSpec]:
    return {name: BackboneSpec("test_resnet", str(weights(folder, n)), 16) for n, name in enumerate(NAMES, start=1)}


def infer(
    folder: Path, victim: Victim, candidates: dict[str, BackboneSpec], queries: int, defense: Any = None
) -> tuple[Any, AttackContext, Any]:
    ctx = context(folder / "job")
    own = f"thief.backbone.weights={weights(folder, 7)}"  # the job's own trunk is none of the candidates
    learner = build.make(composed(*TRUNK, *QUICK[:2], own).thief)
    oracle = in_front_of(victim, POOL, ctx, queries, defense or NoDefense())
    attack, handed = TrunkInference(random, soft_cross_entropy, candidates), AttackContext(learner, ctx)
    attack.check(oracle.budget, POOL)
    attack.check_thief(learner)
    thief = attack.run(oracle, POOL, handed)
    assert oracle.used == queries  # what solve asks, and nothing else
    return thief, handed, learner


def named(ctx: AttackContext) -> list[str]:
    return [name for name in NAMES if found(ctx).get(f"attack/named/{name}")]


@pytest.mark.parametrize("trunk", NAMES)
@pytest.mark.parametrize("queries", [60, 300])
def test_the_trunk_behind_the_api_is_named(tmp_path: Path, trunk: str, queries: int) -> None:
    """Also with fewer answers than features (96)."""
    candidates = specs(tmp_path)
    _, ctx, _ = infer(tmp_path, a_victim(candidates[trunk]), candidates, queries)
    assert named(ctx) == [trunk]
    residuals = {name: found(ctx)[f"attack/residual/{name}"] for name in NAMES}
    assert min(residuals, key=lambda name: residuals[name]) == trunk


@pytest.mark.parametrize("queries", [90, 300])
def test_a_trunk_that_is_no_candidate_is_none_of_them(tmp_path: Path, queries: int) -> None:
    candidates = specs(tmp_path)
    _, ctx, _ = infer(tmp_path, a_victim(candidates.pop("two")), candidates, queries)
    assert named(ctx) == [] and found(ctx)["attack/gain"] > 1.1
    assert len([name for name in found(ctx) if name.startswith("attack/residual/")]) == 2


def test_a_single_candidate_is_its_own_null(tmp_path: Path) -> None:
    candidates = specs(tmp_path)
    one, two = ({name: candidates[name]} for name in ("one", "two"))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    assert named(infer(tmp_path / "a", a_victim(candidates["one"]), one, 90)[1]) == ["one"]
    assert named(infer(tmp_path / "b", a_victim(candidates["one"]), two, 90)[1]) == []


def test_rounded_answers_name_the_trunk_too(tmp_path: Path) -> None:
    candidates = specs(tmp_path)
    _, ctx, _ = infer(tmp_path, a_victim(candidates["two"]), candidates, 90, Rounding(3))
    residuals = {name: found(ctx)[f"attack/residual/{name}"] for name in NAMES}
    assert min(residuals, key=lambda name: residuals[name]) == "two" and found(ctx)["attack/solved"] == 0


def test_labels_name_none(tmp_path: Path) -> None:
    candidates = specs(tmp_path)
    thief, ctx, learner = infer(tmp_path, a_victim(candidates["two"]), candidates, 60, HardLabel())
    assert set(found(ctx)) == {"attack/solved", "attack/held_out_agreement"} and thief.frozen == learner.backbone


def test_the_thief_is_kept_and_loaded_with_the_trunk_that_was_named(tmp_path: Path) -> None:
    candidates = specs(tmp_path)
    victim = a_victim(candidates["three"])
    thief, ctx, learner = infer(tmp_path, victim, candidates, 300)
    made, folder = stolen.Made(), TheftFolder(tmp_path / "theft")
    folder.path.mkdir()
    made.note(thief)
    known = stolen.write(folder, thief, learner, made, torch.from_numpy(np.array(POOL.pixels[:8])))
    again = stolen.load(folder, known)
    assert isinstance(again, nn.Module) and known["backbone"]["weights"] == candidates["three"].weights
    job = ctx._job()
    answers = [
        compute_outputs(model, POOL, LAST, job)
        for model in (victim.model, thief, again, stolen.open_thief(folder.thief))
    ]
    assert (answers[0].argmax(1) == answers[1].argmax(1)).all()
    for other in answers[2:]:
        torch.testing.assert_close(other, answers[1], rtol=0, atol=0)
    assert answers[1].shape == (len(LAST), CLASSES)


def test_a_candidate_that_cannot_be_loaded_is_named_before_a_query_is_paid(tmp_path: Path) -> None:
    """Weights that are missing when the job is composed, those of another architecture before the first question."""
    candidates = specs(tmp_path)
    missing = {**candidates, "four": replace(candidates["one"], weights=str(tmp_path / "none.pth"))}
    learner = build.make(composed(*TRUNK, f"thief.backbone.weights={weights(tmp_path, 7)}").thief)
    with pytest.raises(ConfigError, match=r"attack.candidates.four cannot be loaded: There is no weights file"):
        TrunkInference(random, soft_cross_entropy, missing).check_thief(learner)
    wrong = {**candidates, "five": replace(candidates["one"], model="resnet10t")}
    attack, ctx = TrunkInference(random, soft_cross_entropy, wrong), context(tmp_path / "job")
    attack.check_thief(learner)
    oracle = in_front_of(a_victim(candidates["one"]), POOL, ctx, 60)
    with pytest.raises(ConfigError, match=r"attack.candidates.five cannot be loaded.*Nothing was asked"):
        attack.run(oracle, POOL, AttackContext(learner, ctx))
    assert oracle.used == 0


def test_no_candidates_and_too_few_queries_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attack.candidates must name"):
        TrunkInference(random, soft_cross_entropy, {})
    attack = TrunkInference(random, soft_cross_entropy, {"one": BackboneSpec("test_resnet")})
    with pytest.raises(ConfigError, match="5 queries at least"):
        attack.check(Budget(4), POOL)
