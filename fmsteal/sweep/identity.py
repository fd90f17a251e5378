"""Which job is this? A readable key, made from what is stolen, from whom, with what, and the seed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.store import digest

AXES = ("task", "data", "victim", "thief", "query", "budget", "attack", "defense", "evaluation")
PATHS = ("root", "weights")  # keys whose value may be a path: its last part counts, not where it lies


def job_key(cfg: DictConfig, choices: Mapping[str, Any]) -> str:
    """A slug of the choices and 8 hex digits of the hash of all fields that decide the result.

    Paths, devices, loggers and worker counts play no part: the same job has the same key on every machine. Of a
    path (a data set's ``root``, a checkpoint) the last component counts.
    """
    fields: dict[str, Any] = {
        name: OmegaConf.to_container(cfg[name], resolve=True, throw_on_missing=True) for name in AXES
    }
    fields |= {"seed": cfg.seed, "precision": OmegaConf.select(cfg, "trainer.lightning.precision")}
    slug = "-".join(str(choices[a]) for a in ("data", "victim", "thief", "query", "budget", "attack", "defense"))
    slug = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{slug}-s{cfg.seed}")
    return f"{slug[:120]}-{digest(_portable(fields))[:8]}"


def axes(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The flat columns that compare runs: the chosen file of each group, and the fields that are swept most."""
    chosen = {name: str(choices.get(name, "none")) for name in AXES}
    for name, choice in choices.items():
        if name.startswith("attack/"):
            chosen[name.replace("/", "_")] = str(choice)
    return {
        **chosen,
        "victim_adaptation": OmegaConf.select(cfg, "victim.adaptation", default="none"),
        "thief_adaptation": OmegaConf.select(cfg, "thief.adaptation", default="none"),
        "queries": OmegaConf.select(cfg, "budget.queries", default="none"),
        "seed": cfg.seed,
    }


def register_resolvers() -> None:
    """Make ``${job_key:}`` known to the config, for output folders."""

    def resolve(*, _root_: DictConfig) -> str:
        return job_key(_root_, _root_.hydra.runtime.choices)

    OmegaConf.register_new_resolver("job_key", resolve, replace=True)


def _portable(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _portable(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_portable(v) for v in value]
    if key in PATHS and isinstance(value, str) and not value.startswith("pypi:"):
        return PurePath(value).name
    return value
