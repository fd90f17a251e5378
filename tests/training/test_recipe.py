from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmsteal.base.errors import ConfigError
from fmsteal.training.recipe import Recipe


def recipe(**fields: object) -> Recipe:
    return Recipe(**{"epochs": 10, "batch_size": 4, "optimizer": "sgd", "lr": 0.1, **fields})  # type: ignore[arg-type]


def reference(scheduler: str, epochs: int) -> list[float]:
    """The same schedule by torch's own class, one value per epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made = {
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        "step": lambda: torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7], 0.2),
        "constant": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
    }[scheduler]()
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_schedules_against_torchs(schedule: str) -> None:
    ours = recipe(schedule=schedule, milestones=[3, 7], gamma=0.2)
    assert [ours.lr_factor(e) for e in range(10)] == pytest.approx(reference(schedule, 10))


@pytest.mark.parametrize("batches", [7, 35, 140])
def test_a_late_cosine_is_torchs_stepped_once_an_epoch_from_the_eleventh_on(batches: int) -> None:
    """The loop of the code of Dziedzic et al. (ICML 2022), whose T_max is the loader's length."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    made, want = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=batches, eta_min=0), []
    for epoch in range(100):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if epoch >= 10:
            made.step()
    ours = recipe(schedule="late_cosine", hold_epochs=10, epochs=100)
    assert [ours.lr_factor(e, batches) for e in range(100)] == pytest.approx(want, abs=1e-9)
    within = [ours.lr_factor((13 * batches + step) / batches, batches) for step in range(batches)]
    assert set(within) == {ours.lr_factor(13, batches)}  # one rate an epoch
    assert "hold_epochs" in ours.identity() and "hold_epochs" not in recipe().identity()


def test_warm_up_rises_to_one_and_cosine_ends_at_zero() -> None:
    ours = recipe(warmup_epochs=2)
    factors = [ours.lr_factor(e / 4) for e in range(41)]
    assert factors[:8] == sorted(factors[:8]) and factors[8] == pytest.approx(1.0)
    assert factors[8:] == sorted(factors[8:], reverse=True) and factors[-1] == pytest.approx(0.0)


@given(st.integers(1, 50), st.integers(0, 500), st.integers(1, 60))
def test_min_steps_is_the_least_that_suffices(epochs: int, min_steps: int, per_epoch: int) -> None:
    got = recipe(epochs=epochs, min_steps=min_steps).for_steps(per_epoch).epochs
    assert got == max(epochs, math.ceil(min_steps / per_epoch))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 0}, {"optimizer": "sdg"}, {"solver": "newton"}, {"l2": 0.1},
     {"solver": "convex", "l2": 0.0}, {"solver": "convex", "l2": -1.0}, {"hold_epochs": -1}],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        recipe(**wrong)
