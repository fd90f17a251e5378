"""What semi-supervised thieves do alike: what they ask, what they train on, how they go on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.selection import random
from fmsteal.attacks.semi_supervised import AveragedModule
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.beside import Beside
from fmsteal.data.images import Images
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget
from fmsteal.training import inference
from fmsteal.training.recipe import Recipe
from tests.support.colour_api import POOL, QUICK, Killed, oracle_for, same_weights
from tests.support.composing import composed
from tests.support.small_task import context

NAMES = ["mixmatch", "querywise"]
PROBE = (
    "thief=efficientnet_lite0", "thief.backbone.size=32", "thief.recipe.batch_size=16", "thief.recipe.epochs=3",
    "thief.recipe.solver=steps",
)  # fmt: skip
SHIFTED = ("thief.recipe.augment.shift=0.1", "thief.recipe.augment.flip=0.5")


def stolen(folder: Path, *overrides: str, queries: int = 40, pool: Images = POOL) -> tuple[Any, Any]:
    cfg = composed(*overrides)
    ctx = context(folder, "trainer.checkpoint_seconds=0")
    attack, oracle = build.make(cfg.attack), oracle_for(ctx, queries, pool)
    attack.check(oracle.budget, pool)
    return attack.run(oracle, pool, AttackContext(build.make(cfg.thief), ctx)), oracle


def served(monkeypatch: pytest.MonkeyPatch) -> list[Beside]:
    """The loaders that are made from now on."""
    found = []
    start = Beside.__init__

    def kept(self: Beside, *args: Any, **options: Any) -> None:
        start(self, *args, **options)
        found.append(self)

    monkeypatch.setattr(Beside, "__init__", kept)
    return found


@pytest.mark.parametrize("held", [0, 0.25])
@pytest.mark.parametrize("name", NAMES)
def test_no_image_beside_was_ever_asked_about(
    name: str, held: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders = served(monkeypatch)
    _, oracle = stolen(tmp_path, *QUICK, f"attack={name}", f"attack.validation={held}", "attack.unlabelled=30")
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == 40
    (loader,) = loaders
    asked, others = random(80, 40, 0), loader.others.ids  # type: ignore[union-attr]
    np.testing.assert_array_equal(loader.inputs.ids, asked[: 40 - int(40 * held)])  # type: ignore[union-attr]
    assert len(set(others)) == 30 and not set(others) & set(asked)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_left_is_trained_on_by_default(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders = served(monkeypatch)
    stolen(tmp_path, *QUICK, f"attack={name}", queries=70)
    assert set(loaders[0].others.ids) == set(range(80)) - set(random(80, 70, 0))  # type: ignore[union-attr]


@pytest.mark.parametrize("thief", [pytest.param("scratch", marks=pytest.mark.slow), "probe"])
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_training_ends_as_if_it_had_never_been(
    name: str, thief: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = (*QUICK, "thief.recipe.epochs=3") if thief == "scratch" else (*PROBE, "thief.recipe.views=2")
    overrides = (*kind, *SHIFTED, f"attack={name}", "attack.validation=0.2")
    whole, _ = stolen(tmp_path / "whole", *overrides)
    begin = AveragedModule.on_train_epoch_start

    def dies(self: AveragedModule) -> None:
        if self.current_epoch == 2:
            raise Killed
        begin(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(AveragedModule, "on_train_epoch_start", dies)
        stolen(tmp_path / "cut", *overrides)
    assert (tmp_path / "cut" / "work" / "thief" / "last.ckpt").is_file()
    epochs = []
    monkeypatch.setattr(
        AveragedModule, "on_train_epoch_start", lambda self: epochs.append(self.current_epoch) or begin(self)
    )
    again, oracle = stolen(tmp_path / "cut", *overrides)
    assert epochs == [2] and oracle.used == 40
    assert same_weights(whole, again)


@pytest.mark.parametrize("views", [0, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_trunk_sees_each_image_once(
    name: str, views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    in_batches = inference.run_in_batches

    def counted(model: nn.Module, what: Any, count: int, ctx: Any) -> Any:
        rows.append(count if any(p.ndim == 4 for p in model.parameters()) else 0)
        return in_batches(model, what, count, ctx)

    monkeypatch.setattr(inference, "run_in_batches", counted)
    augmented = (f"thief.recipe.views={views}", *SHIFTED) if views else ()
    thief, _ = stolen(tmp_path, *PROBE, *augmented, f"attack={name}")
    held = 4 if name == "querywise" else 0  # these as they are
    assert sum(rows) == (80 - held) * max(1, views) + held
    fresh = build.make(composed(*PROBE).thief).build(4)
    assert same_weights(thief.backbone, fresh.backbone) and not same_weights(thief.head, fresh.head)
    assert thief(torch.rand(2, 3, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_asked_about_changes_the_thief(name: str, tmp_path: Path) -> None:
    options = (*QUICK, "thief.recipe.epochs=2", f"attack={name}", *(["attack.confidence=0"] * (name == "querywise")))
    one, _ = stolen(tmp_path / "one", *options)
    other, _ = stolen(tmp_path / "other", *options, "attack.unlabelled=5")
    assert not same_weights(one, other)


@pytest.mark.parametrize(
    ("name", "without", "knockoff"),
    [
        ("mixmatch", ("weight=0",), ()),
        ("mixmatch", ("weight=0", "labels=hard"), ("attack/loss=hard",)),
        ("querywise", ("weight=0", "distil=0", "adjustment=0", "validation=0"), ("attack/loss=hard",)),
        ("querywise", ("weight=0", "distil=0", "adjustment=0", "validation=0", "ratio=2"), ("attack/loss=hard",)),
    ],
)
def test_without_what_they_add_they_are_knockoff(
    name: str, without: tuple[str, ...], knockoff: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmsteal.attacks.mixmatch.mix_up", lambda inputs, targets, alpha: (inputs, targets))
    options = [f"attack.{each}" for each in (*without, "ema=0")]
    ours, _ = stolen(tmp_path / "ours", *PROBE, f"attack={name}", *options)
    plain, _ = stolen(tmp_path / "plain", *PROBE, "attack=knockoff", *knockoff)
    for key, weight in plain.head.state_dict().items():
        torch.testing.assert_close(ours.head.state_dict()[key], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_that_leaves_too_little_is_refused(name: str) -> None:
    attack = build.make(composed(f"attack={name}").attack)
    attack.check(Budget(79), POOL)
    with pytest.raises(ConfigError, match=r"1 at least, but a budget of 80 queries leaves 0 of the query set's 80"):
        attack.check(Budget(80), POOL)
    attack = build.make(composed(f"attack={name}", "attack.unlabelled=30").attack)
    attack.check(Budget(50), POOL)
    with pytest.raises(ConfigError, match=r"30 at least, but a budget of 51 .*attack\.unlabelled=N"):
        attack.check(Budget(51), POOL)
    with pytest.raises(ConfigError, match=r"query set holds 80 images"):
        attack.check(Budget(81), POOL)
    for wrong in ("ratio=0", "unlabelled=0", "validation=1", "ema=1"):
        with pytest.raises(ConfigError, match=rf"attack\.{wrong.split('=')[0]}"):
            build.make(composed(f"attack={name}", f"attack.{wrong}").attack)


RECIPE = Recipe(epochs=1, batch_size=2, optimizer="sgd", lr=0.1)


def test_the_average_against_a_loop() -> None:
    torch.manual_seed(0)
    module = AveragedModule(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), RECIPE, 0, ema=0.5)
    want = {name: value.double() for name, value in module.net.state_dict().items()}
    module.student.train()
    for step in range(1, 30):
        module.student(torch.randn(5, 3))
        with torch.no_grad():
            for parameter in module.student.parameters():
                parameter += torch.randn_like(parameter)
        module.follow(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in module.student.state_dict().items():
            want[name] = decay * want[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in module.net.state_dict().items():
        torch.testing.assert_close(value.double(), want[name].double(), rtol=1e-5, atol=1e-5)
    assert int(module.net[1].num_batches_tracked) == 29  # type: ignore[index]


def test_only_the_student_learns_and_only_it_is_in_train_mode() -> None:
    module = AveragedModule(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), RECIPE, 0, ema=0.9)
    learns = {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad}
    assert learns == {"student"}
    module.train()
    module.trainer = type("Trainer", (), {"current_epoch": 0, "global_rank": 0})()  # type: ignore[assignment]
    AveragedModule.on_train_epoch_start(module)
    assert module.student.training and not module.net.training
