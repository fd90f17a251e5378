"""Configs of Hydra's store that are made when they are asked for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

from fmsteal import cli
from fmsteal.base import paths
from fmsteal.config import later
from tests.support.composing import composed

made: list[str] = []


def make() -> DictConfig:
    made.append("x")
    return OmegaConf.create({"name": "x"})


@pytest.fixture
def store() -> Iterator[ConfigStore]:
    made.clear()
    later.store("later/inner", "x", make, package="_global_")
    yield ConfigStore.instance()
    del ConfigStore.instance().repo["later"]


def test_a_config_is_listed_unmade_and_made_once(store: ConfigStore) -> None:
    assert store.list("later/inner") == ["x.yaml"] and composed("seed=1").seed == 1 and not made
    first = store.load("later/inner/x.yaml")
    first.node.name = "y"
    assert (store.load("later/inner/x.yaml").node.name, first.package, made) == ("x", "_global_", ["x"])


def test_another_process_gets_what_was_there_when_it_was_sent(store: ConfigStore) -> None:
    sent = pickle.dumps(store)
    made.clear()
    there = pickle.loads(sent).repo["later"]["inner"]["x.yaml"]
    assert type(there) is ConfigNode and there.node.name == "x" and not made
    assert "victim" in pickle.loads(sent).repo


def test_each_preset_is_known_and_none_is_read_before_it_is_chosen() -> None:
    cli.register()
    here = ConfigStore.instance().repo["sweep"]
    files = {file.name for file in paths.folder("sweeps").glob("*.yaml")}
    assert files <= here.keys() and "cifar10_lp.yaml" in here["paper"]
    assert composed("sweep=quickstart").hydra.sweeper.params.budget == "'100','500',1k"  # of the store as it was before
    assert not any("node" in vars(node) for node in here.values() if not isinstance(node, dict))
    assert here["attacks.yaml"].node.sweep_id == "attacks"
