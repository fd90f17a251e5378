"""Encoders behind the API: pre-trained here once and without labels, or taken as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config import build
from fmsteal.data.augment import RandomAffine
from fmsteal.data.images import Task
from fmsteal.networks.backbones import Backbone, BackboneSpec
from fmsteal.training.recipe import Recipe
from fmsteal.training.simclr import SimCLRModule
from fmsteal.training.trainer import LAST
from fmsteal.victims.classifier import ClassifierVictim
from fmsteal.victims.encoder import EncoderVictim
from fmsteal.victims.simclr import SimCLRVictim
from tests.support.composing import composed
from tests.support.small_task import TASK, context

SPEC = BackboneSpec("resnet18", size=32, stem="small_half", options={"layers": [1, 1, 1, 1], "channels": [8] * 4})
RECIPE = Recipe(epochs=3, batch_size=8, optimizer="sgd", lr=0.05)
VICTIM = SimCLRVictim(SPEC, RECIPE, RandomAffine(shift=0.2, flip=0.5))
IDS = np.arange(20)


def state(folder: Path) -> dict[str, torch.Tensor]:
    (weights,) = (folder / "cache" / "victims").rglob("weights.safetensors")
    return load_file(weights)


def test_an_encoder_is_pretrained_once_without_labels_and_found_again(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    unlabelled = Task(replace(TASK.train, labels=None), TASK.test)
    first = VICTIM.prepare(unlabelled, ctx)
    assert isinstance(first.model, Backbone) and not first.model.training
    assert first.raw(TASK.test, IDS, ctx).shape == (20, 8)
    epochs = (tmp_path / "metrics.csv").read_text().count("victim/loss")
    assert epochs == 3
    again = VICTIM.prepare(unlabelled, context(tmp_path))
    assert again.key == first.key and (tmp_path / "metrics.csv").read_text().count("victim/loss") == epochs
    torch.testing.assert_close(again.raw(TASK.test, IDS, ctx), first.raw(TASK.test, IDS, ctx), rtol=0, atol=0)
    assert again.forwards == 0, "answers are shared by key"
    assert set(state(tmp_path)) == {f"backbone.{k}" for k in first.model.state_dict()}, "the head is dropped"
    untrained = SPEC.build(pretrained=False).state_dict()
    assert not torch.equal(
        untrained["trunk.layer4.0.conv2.weight"], first.model.state_dict()["trunk.layer4.0.conv2.weight"]
    )


def test_its_weights_are_weights_to_start_from(tmp_path: Path) -> None:
    victim = VICTIM.prepare(TASK, context(tmp_path))
    (weights,) = (tmp_path / "cache" / "victims").rglob("weights.safetensors")
    trunk = replace(SPEC, weights=str(weights)).build(pretrained=True).state_dict()
    assert all(torch.equal(v, trunk[k]) for k, v in victim.model.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"temperature": 0.1}, {"projection": 16}, {"views": RandomAffine(shift=0.3)},
        {"recipe": replace(RECIPE, lr=0.06)}, {"backbone": replace(SPEC, normalise="half")},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_whatever_decides_the_encoder_is_in_its_identity(change: dict[str, Any]) -> None:
    assert replace(VICTIM, **change).identity() != VICTIM.identity() == replace(VICTIM).identity()


def test_a_killed_pretraining_goes_on_from_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    VICTIM.prepare(TASK, context(tmp_path / "whole"))
    loss: Callable[..., Any] = SimCLRModule.loss
    steps: list[int] = []

    def interrupted(self: SimCLRModule, batch: Any) -> Any:
        steps.append(self.current_epoch)
        if len(steps) == 13:  # five steps an epoch: in the third
            raise InterruptedError
        return loss(self, batch)

    monkeypatch.setattr(SimCLRModule, "loss", interrupted)
    cut = tmp_path / "cut"
    with pytest.raises(InterruptedError):
        VICTIM.prepare(TASK, context(cut, "trainer.checkpoint_seconds=0"))
    assert list(cut.rglob(LAST)) and not list(cut.rglob("weights.safetensors"))
    VICTIM.prepare(TASK, context(cut, "trainer.checkpoint_seconds=0"))
    assert steps[13:] == [2] * 5
    whole = state(tmp_path / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in state(cut).items())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"backbone": replace(SPEC, weights="hub")}, r"random initialisation, but .*weights=hub.*EncoderVictim"),
        ({"temperature": 0.0}, r"victim.temperature > 0"),
        ({"projection": 0}, r"victim.projection >= 1"),
        ({"recipe": replace(RECIPE, batch_size=1)}, r"batch_size must be at least 2"),
        ({"recipe": replace(RECIPE, augment=RandomAffine(flip=0.5))}, r"recipe.augment must be null"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        replace(VICTIM, **change)


def test_a_pretrained_trunk_answers_as_it_is(tmp_path: Path) -> None:
    trunk = SPEC.build(pretrained=False).eval()
    save_file(trunk.state_dict(), file := tmp_path / "weights.safetensors")
    encoder = EncoderVictim(replace(SPEC, weights=str(file)), "probe", RECIPE)
    ctx = context(tmp_path)
    victim = encoder.prepare(TASK, ctx)
    with torch.no_grad():
        want = trunk(torch.from_numpy(np.array(TASK.test.pixels[IDS])))
    torch.testing.assert_close(victim.raw(TASK.test, IDS, ctx), want, rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "cache" / "victims").exists(), "nothing was trained"
    assert replace(encoder, seed=3, recipe=replace(RECIPE, lr=1.0)).prepare(TASK, ctx).key == victim.key
    save_file({k: v * 2 for k, v in trunk.state_dict().items()}, other := tmp_path / "other.safetensors")
    assert replace(encoder, backbone=replace(SPEC, weights=str(other))).prepare(TASK, ctx).key != victim.key


def test_a_trunk_trained_on_labels_is_the_classifiers_own_and_has_no_head(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    recipe = replace(RECIPE, epochs=1)
    classifier = ClassifierVictim(SPEC, "scratch", recipe).prepare(TASK, ctx)
    lines = (tmp_path / "metrics.csv").read_text()
    encoder = EncoderVictim(SPEC, "scratch", recipe).prepare(TASK, ctx)
    assert (tmp_path / "metrics.csv").read_text() == lines, "it is not trained twice"
    assert isinstance(encoder.model, Backbone) and not encoder.model.training and encoder.key != classifier.key
    trained = classifier.model.backbone.state_dict()  # type: ignore[union-attr,operator]
    assert all(torch.equal(v, trained[k]) for k, v in encoder.model.state_dict().items())
    assert encoder.raw(TASK.test, IDS, ctx).shape == (20, 8)
    with pytest.raises(DataError, match="training images have none"):
        ClassifierVictim(SPEC, "scratch", replace(recipe, lr=0.1)).prepare(
            Task(replace(TASK.train, labels=None), TASK.test), ctx
        )


@pytest.mark.parametrize("name", ["simclr_resnet18", "simclr_resnet10"])
def test_the_presets_are_made_of_their_parts(name: str) -> None:
    victim = build.make(composed(f"victim={name}").victim)
    assert isinstance(victim, SimCLRVictim) and victim.answers == "embeddings"
    assert victim.backbone.stem.startswith("small") and victim.temperature == 0.5
    with torch.device("meta"):
        assert victim.backbone.build(pretrained=False).num_features == (512 if name.endswith("18") else 256)


def test_googles_encoder_needs_its_checkpoint() -> None:
    victim = build.make(composed("victim=simclr_imagenet_resnet50").victim)
    assert isinstance(victim, EncoderVictim) and victim.adaptation == "probe" and victim.backbone.normalise == "none"
    with pytest.raises(DataError, match=r"resnet50 has no pretrained weights configured.*weights=/path/to/checkpoint"):
        victim.backbone.require_weights()


def test_a_plain_trunk_becomes_what_the_task_asks_for() -> None:
    plain = composed("victim=resnet18")
    assert isinstance(build.make(plain.victim), ClassifierVictim)
    OmegaConf.update(plain, "task.victim", "fmsteal.victims.encoder.EncoderVictim")
    made = build.make(plain.victim)
    assert isinstance(made, EncoderVictim) and (made.answers, ClassifierVictim.answers) == (
        "embeddings",
        "probabilities",
    )
