"""Configs of jobs that were run name classes where they were: they mean the same, and can be made."""

from __future__ import annotations

from omegaconf import OmegaConf

from fmsteal.config import build
from fmsteal.config.moved import MOVED, find_current
from fmsteal.identity import table
from fmsteal.identity.keys import identity
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.learners import ClassifierLearner
from tests.support.composing import composed

BEFORE = {now: before for before, now in MOVED.items()}


def as_before(text: str) -> str:
    """A config as a job's file had it before the classes moved."""
    for now, before in BEFORE.items():
        text = text.replace(f"_target_: {now}.", f"_target_: {before}.")
    return text


def test_every_class_is_where_it_is_said_to_be_now() -> None:
    for module in MOVED.values():
        assert any(path.rpartition(".")[0] == module for path in table.entries()), module
    assert find_current("fmsteal.training.Training") == "fmsteal.training.trainer.Training"
    assert find_current("theirs.attack.Twice") == "theirs.attack.Twice"


def test_an_earlier_config_has_the_key_that_it_had_and_is_made_of_the_same_classes() -> None:
    cfg = composed("thief.recipe.epochs=5")
    old = OmegaConf.create(as_before(OmegaConf.to_yaml(cfg)))
    assert old.thief._target_ == "fmsteal.learners.ClassifierLearner"
    assert old.victim.backbone._target_ == "fmsteal.backbones.BackboneSpec"
    assert identity(old) == identity(cfg)
    build.check(old)
    thief = build.make(old.thief)
    assert isinstance(thief, ClassifierLearner) and isinstance(thief.backbone, BackboneSpec)
    assert thief == build.make(cfg.thief)
    assert old.thief._target_ == "fmsteal.learners.ClassifierLearner"  # the config itself stays as it was read
