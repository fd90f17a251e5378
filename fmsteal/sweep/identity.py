"""Which job is this? Its settings, a readable key made from them, and the columns that compare it with others.

The settings are all that decides a result: what is stolen, from whom, with what, how it is trained, and the seed.
Devices, loggers, worker counts and output folders play no part, so the same job has the same key on every machine. Of
a path (a data set's ``root``, a checkpoint) the last component counts; that the *content* is the same is checked when
a job goes on in its folder (`fmsteal.pipeline`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from fmsteal.store import digest

AXES = ("task", "data", "victim", "thief", "query", "budget", "attack", "defense", "evaluation")
OF_VICTIM = ("task", "data", "victim", "victim_adaptation", "seed")  # columns that say something about a victim alone
MACHINE = {  # options of `lightning.Trainer` that say where and how loudly a model is trained, not what comes out
    "accelerator", "devices", "num_nodes", "strategy", "plugins", "logger", "log_every_n_steps", "profiler",
    "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "default_root_dir", "benchmark",
    "deterministic", "barebones", "num_sanity_val_steps", "use_distributed_sampler",
}  # fmt: skip
ANY_SEED = -1  # stands for the seed in the settings that jobs of one cell share


def settings(cfg: DictConfig) -> dict[str, Any]:
    """All that decides the result, resolved, as flat ``dotted.key: value``."""
    nested: dict[str, Any] = {
        name: OmegaConf.to_container(cfg[name], resolve=True, throw_on_missing=True) for name in AXES
    }
    nested["task"].pop("victim", None)  # the victim's own _target_ says it
    trainer = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(trainer, dict)
    lightning = {k: v for k, v in trainer.get("lightning", {}).items() if k not in MACHINE}
    nested |= {"trainer": {"lightning": lightning, "callbacks": trainer.get("callbacks", [])}, "seed": cfg.seed}
    return {key: _portable(key, value) for key, value in sorted(flat(nested).items())}


def cell_settings(cfg: DictConfig) -> dict[str, Any]:
    """The settings but for the seed: what jobs that are averaged have in common."""
    seed = cfg.seed
    with read_write(cfg):
        cfg.seed = ANY_SEED  # also where it decides other settings
        try:
            return {k: v for k, v in settings(cfg).items() if k != "seed"}
        finally:
            cfg.seed = seed


def cell_key(axis: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Names the cell of a job by its `axes` and `cell_settings`: jobs that differ in the seed alone share it."""
    return digest([{name: value for name, value in axis.items() if name != "seed"}, dict(known)])[:16]


def job_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """A slug of the choices, and 8 hex digits of the hash of the `settings` (``known``, if they were found before)."""
    axes = ("data", "victim", "thief", "query", "budget", "attack", "defense")
    return _named(axes, choices, cfg.seed, known or settings(cfg))


def victim_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """The same for the victim alone: jobs that agree in what it is made of, and on what, share one."""
    made_of = {k: v for k, v in (known or settings(cfg)).items() if k.startswith(("data.", "victim.", "trainer."))}
    return _named(("data", "victim"), choices, made_of.get("victim.seed", 0), made_of)


def _named(axes: Sequence[str], choices: Mapping[str, Any], seed: int, known: Mapping[str, Any]) -> str:
    slug = "-".join(str(choices[a]) for a in axes)
    slug = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{slug}-s{seed}")
    return f"{slug[:120]}-{digest(dict(known))[:8]}"


def axes(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The flat columns that compare runs: the chosen file of each group, and the fields that are swept most."""
    chosen = {name: str(choices.get(name, "none")) for name in AXES}
    for name in ("attack/selection", "attack/strategy", "attack/loss"):
        chosen[name.replace("/", "_")] = str(choices.get(name, "none"))
    return {
        **chosen,
        "victim_adaptation": OmegaConf.select(cfg, "victim.adaptation", default="none"),
        "thief_adaptation": OmegaConf.select(cfg, "thief.adaptation", default="none"),
        "queries": OmegaConf.select(cfg, "budget.queries", default="none"),
        "seed": cfg.seed,
    }


def victim_axes(found: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    """The same columns for a run that makes a victim alone, with the seed it is made with; the others are ``none``."""
    return {name: found[name] if name in OF_VICTIM else "none" for name in found} | {"seed": seed}


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, by dotted key."""
    if not isinstance(value, dict):
        return {key: value}
    inner = [flat(v, f"{key}.{name}" if key else str(name)) for name, v in value.items()]
    return {k: v for part in inner for k, v in part.items()}


def is_path(key: str, value: Any) -> bool:
    """Whether a setting names a local file or folder."""
    return key.endswith(("root", "weights")) and isinstance(value, str) and value != "hub" and ":" not in value


def _portable(key: str, value: Any) -> Any:
    return PurePath(value).name if is_path(key, value) else value
