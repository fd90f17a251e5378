"""Configs of jobs, composed as the command does, and the choices that make a job small."""

from __future__ import annotations

import pickle
from functools import cache, lru_cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from fmsteal import cli
from fmsteal.base import paths
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.identity.keys import identity, key_hash
from fmsteal.sweep.space import list_values

SMOKE = ("experiment=smoke", "tracker=none", "trainer=cpu")


TINY = "backbone.model=test_resnet"  # of timm: a fifth of the time of a ResNet-10


SMALL = (*SMOKE, "victim=resnet10t", "thief=resnet10t", f"victim.{TINY}", f"thief.{TINY}")


@cache
def loader() -> SharedLoader:
    """Reads each file of conf/ once in a process; made where Hydra is initialised."""
    return SharedLoader(GlobalHydra.instance().config_loader().get_search_path())


def composed(*overrides: str) -> DictConfig:
    """The config of a job, with the ``hydra`` node."""
    made: DictConfig = pickle.loads(_compose(overrides, Path.cwd()))
    return made


@lru_cache(maxsize=500)
def _compose(overrides: tuple[str, ...], cwd: Path) -> bytes:
    """The config, pickled: each test has one of its own."""
    cli.forget_other_plugins()
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = loader()
        return pickle.dumps(compose("config", list(overrides), return_hydra_config=True))


def choices_of(axis: str, values: object) -> list[str]:
    """The values of an axis, as written; of an interval those that are checked."""
    text = str(values)
    return list_values(OverridesParser.create().parse_override(f"{axis}={text}")) if "(" in text else text.split(",")


def hash_now(job: str) -> str:
    """The hash in a job's key, by its overrides."""
    return key_hash(identity(composed(*job.split())))
