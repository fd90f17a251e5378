"""A backbone's file makes it a choice of victim and of thief."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from fmsteal import cli
from fmsteal.base import on_hydra, paths
from fmsteal.base.errors import ConfigError
from fmsteal.config import derived
from fmsteal.sweep.overrides import preview
from tests.support.composing import composed

CONF = paths.folder("conf")
assert cli  # importing it tells Hydra of the derived choices


def test_every_backbone_is_a_victim_and_a_thief() -> None:
    backbones = {file.stem for file in (CONF / "backbone").glob("*.yaml")}
    for role in derived.ROLES:
        files = {file.stem for file in (CONF / role).glob("*.yaml")}
        told = {file.removesuffix(".yaml") for file in ConfigStore.instance().list(role)}
        assert told == set(derived.names(role, [CONF])) == backbones - files and "vit_b16" in told


@pytest.mark.parametrize("role", derived.ROLES)
@pytest.mark.parametrize(("name", "adaptation"), [("vit_b16", "probe"), ("resnet10t", "scratch")])
def test_one_without_weights_is_trained_from_scratch(name: str, adaptation: str, role: str) -> None:
    cfg = composed(f"{role}={name}")
    assert (cfg[role].adaptation, cfg[role].backbone) == (
        adaptation,
        composed(f"backbone@{role}.backbone={name}")[role].backbone,
    )
    assert composed(f"{role}={name}", f"{role}.adaptation=full")[role].recipe.epochs == cfg.recipes.full.epochs
    assert cfg.hydra.runtime.choices[role] == name


def test_the_backbone_alone_can_be_another() -> None:
    cfg = composed("victim=resnet10_small_adversarial", "backbone@victim.backbone=resnet10t")
    assert cfg.victim._target_.endswith("AdversarialVictim") and cfg.victim.backbone.model == "resnet10t"
    words = ["thief/backbone=resnet50"]
    with pytest.raises(ConfigError, match=r"thief/backbone=resnet50.*write backbone@thief\.backbone=resnet50"):
        preview(on_hydra.parse(words))


def test_a_file_of_the_name_says_more() -> None:
    assert composed("recipe@recipes.probe=probe_adamw").victim.recipe.epochs == 30
    assert composed("victim=efficientnet_lite0_full").victim.recipe.epochs == composed().recipes.full.epochs


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Configs of somebody else: backbones that begin with others, and a victim of the name of one of ours."""
    (tmp_path / "backbone").mkdir()
    (tmp_path / "victim").mkdir()
    (tmp_path / "backbone" / "small.yaml").write_text("# From scratch.\ndefaults: [resnet10t, _self_]\nsize: 16\n")
    (tmp_path / "backbone" / "large.yaml").write_text("# With weights.\ndefaults: [vit_b16, _self_]\nsize: 384\n")
    (tmp_path / "backbone" / "broken.yaml").write_text("weights: [\n")
    text = "# Theirs.\ndefaults: [{/backbone@backbone: vit_b16}, /learner/victim@_here_, _self_]\nadaptation: full\n"
    (tmp_path / "victim" / "vit_b16.yaml").write_text(text)
    return tmp_path


def beside(place: Path, *words: str) -> DictConfig:
    with derived.store_for_block([CONF, place]), initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [f"hydra.searchpath=[file://{place}]", *words])


def test_backbones_of_others_are_choices_while_their_place_is_known(theirs: Path) -> None:
    before = dict(ConfigStore.instance().repo["victim"])
    small, large = beside(theirs, "victim=small").victim, beside(theirs, "victim=large").victim
    assert (small.adaptation, small.backbone.size, small.backbone.model) == ("scratch", 16, "resnet10t")
    assert (large.adaptation, large.backbone.size) == ("probe", 384)
    assert beside(theirs, "thief=small").thief._target_.endswith("ClassifierLearner")
    assert ConfigStore.instance().repo["victim"] == before


def test_a_victim_of_others_comes_before_what_is_derived_of_ours(theirs: Path) -> None:
    assert beside(theirs, "victim=vit_b16").victim.adaptation == "full"
    assert beside(theirs, "thief=vit_b16").thief.adaptation == "probe"


def test_a_broken_backbone_is_said_where_it_is_chosen_and_hinders_no_other(theirs: Path) -> None:
    assert beside(theirs, "victim=resnet18").victim.adaptation == "probe"
    with pytest.raises(Exception, match=r"(?s)while parsing"):
        beside(theirs, "victim=broken")


def test_code_without_configs_beside_it_keeps_what_came_with_the_job() -> None:
    before = dict(ConfigStore.instance().repo["victim"])
    derived.store([])
    assert ConfigStore.instance().repo["victim"] == before
