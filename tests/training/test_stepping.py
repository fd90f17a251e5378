"""Optimizers and schedules by class: they step as torch's own loop does, and are told from each other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.identity.keys import settings
from fmsteal.tracking.base import read_points
from fmsteal.training import stepping
from fmsteal.training.recipe import Recipe
from tests.support.composing import SMALL, composed
from tests.support.fitting import X, fitted, linear

EPOCHS, EACH = 3, 4  # batches in an epoch


def recipe(**fields: Any) -> Recipe:
    known = {"epochs": EPOCHS, "batch_size": 2, "optimizer": partial(torch.optim.RMSprop, alpha=0.5), "lr": 0.1}
    return Recipe(**{**known, **fields})


def trained(how: Recipe) -> tuple[Tensor, list[float]]:
    """Weights after a training stepped as Lightning steps it, and the learning rate of each batch."""
    net, rates = nn.Linear(2, 1, bias=False), []
    nn.init.ones_(net.weight)
    made = stepping.make(how, net.parameters(), EPOCHS * EACH)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]
    for _ in range(EPOCHS):
        for _ in range(EACH):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            net(torch.tensor([[1.0, 2.0]])).square().sum().backward()
            optimizer.step()
            if schedule["interval"] == "step":
                schedule["scheduler"].step()
        if schedule["interval"] == "epoch":
            schedule["scheduler"].step()
    return net.weight.detach(), rates


def test_rmsprop_by_class_is_torchs_with_the_recipes_rate_and_decay() -> None:
    weights, _ = trained(recipe(weight_decay=0.3, schedule="constant"))
    weight = torch.ones(1, 2, requires_grad=True)
    optimizer = torch.optim.RMSprop([weight], lr=0.1, alpha=0.5, weight_decay=0.3)
    for _ in range(EPOCHS * EACH):
        optimizer.zero_grad()
        (weight @ torch.tensor([1.0, 2.0])).square().sum().backward()
        optimizer.step()
    assert torch.equal(weights, weight.detach())


def test_what_a_class_is_given_beats_the_recipe_and_what_it_does_not_take_is_left_out() -> None:
    class Plain(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> None: ...  # type: ignore[override]

    assert trained(recipe(optimizer=Plain, weight_decay=0.1))[1][0] == 0.1
    assert trained(recipe(optimizer=partial(Plain, lr=0.7)))[1][0] == 0.7


def test_a_schedule_of_a_class_steps_every_epoch_or_every_batch() -> None:
    _, rates = trained(recipe(schedule=partial(lr_scheduler.ExponentialLR, gamma=0.5)))
    assert rates == pytest.approx([0.1] * EACH + [0.05] * EACH + [0.025] * EACH)
    _, rates = trained(recipe(schedule=partial(lr_scheduler.OneCycleLR, max_lr=0.4)))
    assert len(set(rates)) == EPOCHS * EACH and max(rates) == pytest.approx(0.4, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"optimizer": "sdg"}, "There is no optimizer 'sdg'.*_target_: package.Class"),
        ({"schedule": "linear"}, "There is no schedule 'linear'. There are: cosine, step, constant"),
        ({"schedule": partial(lr_scheduler.ExponentialLR, gamma=0.5), "warmup_epochs": 1}, "warmup_epochs=1 has no"),
        ({"schedule": partial(lr_scheduler.ReduceLROnPlateau)}, "ReduceLROnPlateau needs images held out"),
    ],
    ids=str,
)
def test_what_cannot_step_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        recipe(**fields)


RMSPROP = "{_target_: torch.optim.RMSprop, _partial_: true, alpha: 0.9}"


def test_a_class_counts_in_the_key_by_full_path_and_options() -> None:
    one = settings(composed(*SMALL, f"thief.recipe.optimizer={RMSPROP}"))
    assert one["thief.recipe.optimizer.name"] == "torch.optim.RMSprop" and one["thief.recipe.optimizer.alpha"] == 0.9
    assert one["victim.recipe.optimizer"] == "adamw"
    other = build.make(composed(*SMALL, f"recipes.scratch.optimizer={RMSPROP}").victim)
    known = other.recipe.identity()["optimizer"]
    assert known == {"name": "torch.optim.rmsprop.RMSprop", "alpha": 0.9}
    assert build.make(composed(*SMALL).victim).recipe.identity()["optimizer"] == "adamw"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (
            "recipes.scratch.optimizer=" + RMSPROP.replace("alpha", "alhpa"),
            "recipe.optimizer.alhpa: torch.optim.RMSprop",
        ),
        ("thief.recipe.optimizer={_target_: torch.optim.RMSprop}", "thief.recipe.optimizer._partial_=true"),
        ("thief.recipe.optimizer=" + RMSPROP.replace("RMSprop", "RMSprup"), "RMSprup cannot be found"),
    ],
)
def test_a_misspelt_class_or_option_is_named_with_its_place(word: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build.check(composed(*SMALL, word))
    assert says in str(caught.value)


@pytest.mark.parametrize("schedule", ["cosine", partial(lr_scheduler.ExponentialLR, gamma=0.5)], ids=["step", "epoch"])
def test_the_mean_learning_rate_of_an_epochs_steps_is_a_curve_beside_the_loss(schedule: Any, tmp_path: Path) -> None:
    how = recipe(batch_size=len(X) // EACH, schedule=schedule)
    fitted(tmp_path, how, linear())
    _, rates = trained(how)
    wanted = {epoch + 1: sum(rates[epoch * EACH : (epoch + 1) * EACH]) / EACH for epoch in range(EPOCHS)}
    points = read_points(tmp_path / "metrics.csv")
    assert {x: value for _, x, metric, value in points if metric == "thief/lr"} == pytest.approx(wanted)
    assert len({value for _, _, metric, value in points if metric == "thief/lr"}) == EPOCHS
