"""The keys of jobs and victims, and the columns that compare a job with others.

The identity of a job is all that decides its theft: what is stolen, from whom, with what, how it is trained, and the
seed. Devices, loggers, worker counts, prices and folders play no part, nor where a class of ours is defined, so the
same job has the same key on every machine and in every later version. What is measured afterwards is no part either.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from fmsteal.base.store import digest
from fmsteal.config.local import is_digest, is_path
from fmsteal.identity.content import Contents
from fmsteal.identity.nodes import Idle, find_idle, keep_effective, to_whole
from fmsteal.identity.resolving import resolve

__all__ = [
    "ANY_SEED",
    "AXES",
    "KEY_VERSION",
    "MACHINE",
    "OF_VICTIM",
    "axes",
    "cell_key",
    "cell_settings",
    "find",
    "find_without_effect",
    "flatten",
    "hash_of",
    "identity",
    "is_digest",
    "is_path",
    "job_key",
    "key_hash",
    "node_identity",
    "resolve_groups",
    "settings",
    "victim_axes",
    "victim_key",
]  # fmt: skip

KEY_VERSION = 2
AXES = ("task", "data", "victim", "thief", "query", "budget", "attack", "defense", "evaluation")
OF_VICTIM = ("task", "data", "victim", "victim_adaptation", "seed")  # columns that say something about a victim alone
MACHINE = {  # options of `lightning.Trainer` that say where and how loudly a model is trained, not what comes out
    "accelerator", "devices", "num_nodes", "strategy", "plugins", "logger", "log_every_n_steps", "profiler",
    "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "default_root_dir", "benchmark",
    "deterministic", "barebones", "num_sanity_val_steps", "use_distributed_sampler",
}  # fmt: skip
ANY_SEED = -1  # stands for the seed in the settings that jobs of one cell share

_THEFT = (*(name for name in AXES if name != "evaluation"), "trainer")
_OF_VICTIM = ("data", "victim", "trainer", "edition")  # parts of a job's identity that are its victim's
_HASH = re.compile(r"-([0-9a-f]{16})$")


def identity(cfg: DictConfig, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that decides the theft, nested and readable; ``values`` are `resolve_groups`, if they were found before."""
    values = resolve_groups(cfg) if values is None else values
    ignored, content = frozenset(found.key for found in find_idle(dict(values))), _contents(str(cfg.cache)).of
    found = {name: keep_effective(values[name], name, ignored, content) for name in _THEFT}
    if found["budget"].get("name") == "budget":  # ours: nothing but a number
        del found["budget"]["name"]
    edition = {"edition": values["edition"]} if values.get("edition") is not None else {}
    return {**found, **edition, "seed": cfg.seed}


def node_identity(node: DictConfig, path: str) -> Any:
    """What of any other config node counts, by the same rules; ``path`` is its dotted key."""
    value, root = OmegaConf.to_container(node, resolve=True, throw_on_missing=True), node._get_root()
    ignored = frozenset(found.key for found in find_idle(value, path))
    cache = OmegaConf.select(root, "cache") if isinstance(root, DictConfig) else None
    return keep_effective(value, path, ignored, _contents(None if cache is None else str(cache)).of)


def find_without_effect(cfg: DictConfig) -> list[Idle]:
    """The settings of a job that play no part in it, as far as the classes that it names say so."""
    return list(find_idle(resolve_groups(cfg)))


def resolve_groups(cfg: DictConfig) -> dict[str, Any]:
    """The groups that decide the theft as plain values, all interpolations resolved.

    Raises:
        OmegaConfBaseException: a value is missing, or depends on one that is.
    """
    values = {name: resolve(cfg, name) for name in _THEFT}
    task = values["task"]
    if isinstance(task, dict):
        task.pop("victim", None)  # the victim's own _target_ says it
    return {**values, "edition": cfg.get("edition")}


def settings(cfg: DictConfig) -> dict[str, Any]:
    """The `identity` of a job, flat by dotted key."""
    return dict(sorted(flatten(identity(cfg)).items()))


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
    """Names the cell of a job by its `axes` and `cell_settings`: jobs that differ in the seed alone share it.

    The evaluation plays no part.
    """
    counted = {name: value for name, value in axis.items() if name not in ("seed", "evaluation")}
    return digest([counted, dict(known)])[:16]


def key_hash(identity: Mapping[str, Any]) -> str:
    """16 hex digits for an identity, or a part of one."""
    return digest([KEY_VERSION, dict(identity)])[:16]


def job_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """A slug of the choices, and the hash of the job's `identity` (``known``, if it was found before)."""
    known = identity(cfg) if known is None else known
    asked = known["budget"].get("queries", choices["budget"])  # the number: it has several spellings
    names = ("data", "victim", "thief", "query", "budget", "attack", "defense")
    return _named([asked if name == "budget" else choices[name] for name in names], cfg.seed, known)


def victim_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """The same for the victim alone: jobs that agree in what it is made of, and on what, share one."""
    known = identity(cfg) if known is None else known
    made_of = {name: known[name] for name in _OF_VICTIM if name in known}
    return _named([choices["data"], choices["victim"]], made_of["victim"].get("seed", 0), made_of)


def _named(words: Sequence[Any], seed: Any, known: Mapping[str, Any]) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join([*map(str, words), f"s{seed}"]))
    return f"{slug[:120]}-{key_hash(known)}"


def hash_of(key: str) -> str:
    """The part of a key that decides, its last 16 hex digits: the slug before them is decoration."""
    found = _HASH.search(key)
    return found[1] if found else key


def find(parent: Path, key: str) -> Path:
    """The folder below ``parent`` that is there for a key, under whatever slug; else where it will be."""
    if (parent / key).is_dir():
        return parent / key
    try:
        stamp = parent.stat().st_mtime_ns
    except OSError:
        return parent / key
    return parent / _listed(str(parent), stamp).get(hash_of(key), key)


@functools.lru_cache(maxsize=64)
def _listed(parent: str, stamp: int) -> dict[str, str]:
    """Names of the folders below a folder, by hash; ``stamp`` tells one listing from a later one."""
    with os.scandir(parent) as found:
        names = sorted((item.name for item in found if _HASH.search(item.name) and item.is_dir()), reverse=True)
    return {hash_of(name): name for name in names}


def axes(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The flat columns that compare runs: the chosen file of each group, and the fields that are swept most."""
    chosen = {name: str(choices.get(name, "none")) for name in AXES}
    for name in ("attack/selection", "attack/strategy", "attack/loss"):
        chosen[name.replace("/", "_")] = str(choices.get(name, "none"))
    if links := [str(choices[name]) for name in sorted(map(str, choices)) if name.startswith("defense@defense.of.")]:
        chosen["defense"] = "+".join(links)  # of a chain, in the order in which it applies them
    return {
        **chosen,
        "victim_adaptation": OmegaConf.select(cfg, "victim.adaptation", default="none"),
        "thief_adaptation": OmegaConf.select(cfg, "thief.adaptation", default="none"),
        "queries": to_whole(OmegaConf.select(cfg, "budget.queries")),
        "seed": cfg.seed,
    }


def victim_axes(found: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    """The same columns for a run that makes a victim alone, with the seed it is made with; the others are ``none``.

    A column of numbers has no text in it: there they are None.
    """
    none = dict.fromkeys(found, "none") | {"queries": None}
    return {name: found[name] if name in OF_VICTIM else none[name] for name in found} | {"seed": seed}


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, by dotted key."""
    if not isinstance(value, dict):
        return {key: value}
    inner = [flatten(v, f"{key}.{name}" if key else str(name)) for name, v in value.items()]
    return {k: v for part in inner for k, v in part.items()}


@functools.cache
def _contents(cache: str | None) -> Contents:
    return Contents(None if cache is None else Path(cache).absolute())
