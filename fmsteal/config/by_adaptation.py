"""The default recipe of victims and thieves, ``recipe=by_adaptation``: it follows ``recipes.<adaptation>``.

A field that is set directly (``victim.recipe.epochs=5``) takes precedence over the adaptation's. The fields are read
from the files of ``conf/recipe``, so a new field needs no change here. The recipe is added to Hydra's store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.config import later

GROUP, NAME = "recipe", "by_adaptation"
TARGET = "fmsteal.training.recipe.Recipe"
PARTS = {"augment": "fmsteal.data.augment.RandomAffine", "lora": "fmsteal.training.lora.LoRA"}  # class by field


def store(places: Sequence[Path]) -> None:
    """Add the recipe, made from ``places[0]`` (our folder), to Hydra's store; if empty, keep what the job brought."""
    if places:
        later.store(GROUP, NAME, partial(make, places[0] / GROUP))


def make(folder: Path) -> DictConfig:
    """The recipe's config: fields of any adaptation from ``full.yaml``, those of LoRA alone from ``lora.yaml``."""
    full, lora = (_load(folder / f"{name}.yaml") for name in ("full", "lora"))
    own = {name: f"${{recipes.lora.{name}}}" for name in lora if name not in full}
    return OmegaConf.create({"_target_": TARGET, **_follow(full), "lora": {"_target_": PARTS["lora"], **own}})


def _load(file: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]


def _follow(fields: Mapping[str, Any], below: str = "", dots: str = "..") -> dict[str, Any]:
    """Each field as an interpolation of the adaptation's field; ``dots`` lead up to ``adaptation``."""
    return {
        name: {"_target_": PARTS[name], **_follow(value, f"{below}{name}.", f"{dots}.")}
        if isinstance(value, Mapping)
        else f"${{recipes.${{{dots}adaptation}}.{below}{name}}}"
        for name, value in fields.items()
    }
