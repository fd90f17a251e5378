"""The recipe that victims and thieves begin with, ``recipe=by_adaptation``: that of ``recipes.<adaptation>``.

A field that is set in place (``victim.recipe.epochs=5``) comes before that of the adaptation. Which fields there are,
the files of ``conf/recipe`` say; one more in them needs no word here. Hydra is told of it by its store.
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
PARTS = {"augment": "fmsteal.data.augment.RandomAffine", "lora": "fmsteal.training.lora.LoRA"}  # of it, by field


def store(places: Sequence[Path]) -> None:
    """Tell Hydra of it; the first folder of configs is ours. Where there is none, what came with the job stays."""
    if places:
        later.store(GROUP, NAME, partial(make, places[0] / GROUP))


def make(folder: Path) -> DictConfig:
    """The config, of the fields that the recipes in a folder have: of any adaptation, and of LoRA alone."""
    full, lora = (_load(folder / f"{name}.yaml") for name in ("full", "lora"))
    own = {name: f"${{recipes.lora.{name}}}" for name in lora if name not in full}
    return OmegaConf.create({"_target_": TARGET, **_follow(full), "lora": {"_target_": PARTS["lora"], **own}})


def _load(file: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]


def _follow(fields: Mapping[str, Any], below: str = "", dots: str = "..") -> dict[str, Any]:
    """Each field as that of the adaptation, which is so many dots above it."""
    return {
        name: {"_target_": PARTS[name], **_follow(value, f"{below}{name}.", f"{dots}.")}
        if isinstance(value, Mapping)
        else f"${{recipes.${{{dots}adaptation}}.{below}{name}}}"
        for name, value in fields.items()
    }
