"""Training through Lightning: what it computes, that it resumes as if never stopped, and what it logs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.config import build
from fmsteal.data.augment import RandomAffine
from fmsteal.data.loader import TensorLoader
from fmsteal.training.recipe import Recipe
from fmsteal.training.trainer import LAST
from tests.support.composing import composed
from tests.support.fitting import X, Y, fitted, linear, training


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
def test_it_equals_a_bare_loop(optimizer: str, tmp_path: Path) -> None:
    recipe = Recipe(epochs=4, batch_size=16, optimizer=optimizer, lr=0.05, weight_decay=0.01, momentum=0.9)
    got = fitted(tmp_path, recipe, linear())

    net = linear()
    if optimizer != "adamw":
        nesterov = optimizer == "nesterov"
        stepper = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    else:
        stepper = torch.optim.AdamW(net.parameters(), 0.05, weight_decay=0.01)  # type: ignore[assignment]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, 12)
    loader = TensorLoader(X, Y, 16, seed=7)
    for epoch in range(4):
        loader.set_epoch(epoch)
        for x, y in loader:
            stepper.zero_grad()
            F.cross_entropy(net(x), y).backward()
            stepper.step()
            schedule.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(got.state_dict()[name], value, rtol=1e-5, atol=1e-6)


class Stop(nn.Module):
    """A network that fails once, in the middle of an epoch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.net, self.steps = linear(), steps
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps -= 1
        if self.steps == 0:
            raise InterruptedError
        return self.net(self.dropout(x))


@pytest.mark.parametrize("steps", [4, 8, 11])
def test_a_resumed_training_ends_in_the_same_weights(steps: int, tmp_path: Path) -> None:
    recipe = Recipe(epochs=4, batch_size=16, optimizer="adamw", lr=0.05)
    whole = fitted(tmp_path / "whole", recipe, Stop(0))
    with pytest.raises(InterruptedError):
        fitted(tmp_path / "cut", recipe, Stop(steps), training(checkpoint_seconds=0))
    assert (tmp_path / "cut" / LAST).is_file()
    again = fitted(tmp_path / "cut", recipe, Stop(0))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_curves_have_a_point_an_epoch(tmp_path: Path) -> None:
    fitted(tmp_path, Recipe(epochs=3, batch_size=16, optimizer="sgd", lr=0.05), linear())
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    losses = [(float(x), float(v)) for axis, x, name, v in rows if name == "thief/loss" and axis == "thief/epoch"]
    assert [x for x, _ in losses] == [1, 2, 3]
    net = linear()
    loader = TensorLoader(X, Y, 16, seed=7)
    first = next(iter(loader))
    assert losses[0][1] == pytest.approx(F.cross_entropy(net(first[0]), first[1]).item(), rel=0.5)
    assert losses[2][1] < losses[0][1]


def test_images_are_augmented_and_features_are_not(tmp_path: Path) -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen = nn.Linear(12, 3), []  # type: ignore[var-annotated]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append(x.detach())
            return self.net(x.flatten(1))

    recipe = Recipe(epochs=1, batch_size=40, optimizer="sgd", lr=0.1, augment=RandomAffine(shift=0.5))
    images = torch.full((40, 3, 2, 2), 255, dtype=torch.uint8)
    spy = fitted(tmp_path / "a", recipe, Spy(), x=images)
    assert spy.seen[0].dtype == torch.float32 and spy.seen[0].flatten(1).mean(1).unique().numel() > 20  # type: ignore[operator,index]
    spy = fitted(tmp_path / "b", recipe, Spy(), x=torch.ones(40, 12))
    assert (spy.seen[0] == 1).all()  # type: ignore[index]


def test_a_diverging_loss_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(FmstealError, match=r"became (nan|inf) in epoch \d.*Lower the recipe's lr"):
        fitted(tmp_path, Recipe(epochs=9, batch_size=8, optimizer="sgd", lr=1e38, momentum=0), linear())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            "callbacks=[a]",
            r"trainer\.lightning\.callbacks has no effect: give Lightning callbacks by trainer\.callbacks",
        ),
        ("logger=true", r"trainer\.lightning\.logger has no effect: curves go to metrics\.csv"),
        ("enable_progress_bar=true", r"enable_progress_bar has no effect: a job has a bar of its own"),
        ("enable_model_summary=true", "enable_model_summary has no effect"),
        ("default_root_dir=/tmp/elsewhere", r"default_root_dir has no effect: .*output=/path"),
    ],
)
def test_options_that_lightning_would_never_see_are_refused(option: str, says: str) -> None:
    node = composed("trainer=cpu", f"+trainer.lightning.{option}").trainer
    with pytest.raises(ConfigError, match=says):
        build.make(node)


def test_options_that_say_what_happens_anyway_are_taken() -> None:
    off = ("logger=false", "enable_progress_bar=false", "callbacks=null", "default_root_dir=null")
    build.make(composed("trainer=cpu", *[f"+trainer.lightning.{option}" for option in off]).trainer)


def test_a_single_image_before_a_batch_norm_is_refused_in_words(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(ConfigError, match=r"single image \(40 images, batch_size=13\).*BatchNorm"):
        fitted(tmp_path, Recipe(epochs=1, batch_size=13, optimizer="sgd", lr=0.1), net)
