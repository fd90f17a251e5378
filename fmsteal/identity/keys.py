"""The keys of jobs and victims, and the columns that compare a job with others.

The identity of a job is everything that decides its theft: what is stolen, from whom, with what, how it is trained, and
the seed. Devices, loggers, worker counts, prices, folders and the modules of our classes do not count, so the same job
has the same key on every machine and in every later version. Nor does what is measured afterwards.
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
    "OF_VICTIM_PARTS",
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
OF_VICTIM = ("task", "data", "victim", "victim_adaptation", "seed")  # columns that describe the victim alone
MACHINE = {  # options of `lightning.Trainer` that affect where and how verbosely a model is trained, not the result
    "accelerator", "devices", "num_nodes", "strategy", "plugins", "logger", "log_every_n_steps", "profiler",
    "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "default_root_dir", "benchmark",
    "deterministic", "barebones", "num_sanity_val_steps", "use_distributed_sampler",
}  # fmt: skip
ANY_SEED = -1  # replaces the seed in the settings that jobs of one cell share

_THEFT = (*(name for name in AXES if name != "evaluation"), "trainer")
OF_VICTIM_PARTS = ("data", "victim", "trainer", "edition")  # parts of a job's identity that identify its victim
_HASH = re.compile(r"-([0-9a-f]{16})$")


def identity(cfg: DictConfig, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that decides the theft, nested and readable; ``values``: result of `resolve_groups`, if known."""
    values = resolve_groups(cfg) if values is None else values
    ignored, content = frozenset(found.key for found in find_idle(dict(values))), _contents(str(cfg.cache)).of
    found = {name: keep_effective(values[name], name, ignored, content) for name in _THEFT}
    if found["budget"].get("name") == "budget":  # our own class: only the number counts
        del found["budget"]["name"]
    edition = {"edition": values["edition"]} if values.get("edition") is not None else {}
    return {**found, **edition, "seed": cfg.seed}


def node_identity(node: DictConfig, path: str) -> Any:
    """What counts in any other config node, by the same rules; ``path`` is its dotted key."""
    value, root = OmegaConf.to_container(node, resolve=True, throw_on_missing=True), node._get_root()
    ignored = frozenset(found.key for found in find_idle(value, path))
    cache = OmegaConf.select(root, "cache") if isinstance(root, DictConfig) else None
    return keep_effective(value, path, ignored, _contents(None if cache is None else str(cache)).of)


def find_without_effect(cfg: DictConfig) -> list[Idle]:
    """The settings of a job that have no effect, according to the classes that it names."""
    return list(find_idle(resolve_groups(cfg)))


def resolve_groups(cfg: DictConfig) -> dict[str, Any]:
    """The groups that decide the theft as plain values, all interpolations resolved.

    Raises:
        OmegaConfBaseException: a value is missing, or depends on a missing one.
    """
    values = {name: resolve(cfg, name) for name in _THEFT}
    task = values["task"]
    if isinstance(task, dict):
        task.pop("victim", None)  # implied by the victim's _target_
    return {**values, "edition": cfg.get("edition")}


def settings(cfg: DictConfig) -> dict[str, Any]:
    """The `identity` of a job, flat by dotted key."""
    return dict(sorted(flatten(identity(cfg)).items()))


def cell_settings(cfg: DictConfig) -> dict[str, Any]:
    """The settings except the seed: what the jobs of a cell have in common."""
    seed = cfg.seed
    with read_write(cfg):
        cfg.seed = ANY_SEED  # also changes settings that depend on it
        try:
            return {k: v for k, v in settings(cfg).items() if k != "seed"}
        finally:
            cfg.seed = seed


def cell_key(axis: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Name the cell of a job by its `axes` and `cell_settings`: jobs that differ only in the seed share it.

    The evaluation does not count.
    """
    counted = {name: value for name, value in axis.items() if name not in ("seed", "evaluation")}
    return digest([counted, dict(known)])[:16]


def key_hash(identity: Mapping[str, Any]) -> str:
    """The hash of an identity or a part of one: 16 hex digits."""
    return digest([KEY_VERSION, dict(identity)])[:16]


def job_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """A slug of the choices and the hash of the job's `identity` (``known`` if already computed)."""
    known = identity(cfg) if known is None else known
    asked = known["budget"].get("queries", choices["budget"])  # the number, which choices spell in several ways
    names = ("data", "victim", "thief", "query", "budget", "attack", "defense")
    return _named([asked if name == "budget" else choices[name] for name in names], cfg.seed, known)


def victim_key(cfg: DictConfig, choices: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> str:
    """The key of the victim alone: jobs that train the same victim on the same data share it."""
    known = identity(cfg) if known is None else known
    made_of = {name: known[name] for name in OF_VICTIM_PARTS if name in known}
    return _named([choices["data"], choices["victim"]], made_of["victim"].get("seed", 0), made_of)


def _named(words: Sequence[Any], seed: Any, known: Mapping[str, Any]) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join([*map(str, words), f"s{seed}"]))
    return f"{slug[:120]}-{key_hash(known)}"


def hash_of(key: str) -> str:
    """The last 16 hex digits of a key, which identify it; the slug before them is decoration."""
    found = _HASH.search(key)
    return found[1] if found else key


def find(parent: Path, key: str) -> Path:
    """The folder of a key below ``parent``, whatever its slug; if there is none, where it will be."""
    if (parent / key).is_dir():
        return parent / key
    try:
        stamp = parent.stat().st_mtime_ns
    except OSError:
        return parent / key
    return parent / _listed(str(parent), stamp).get(hash_of(key), key)


@functools.lru_cache(maxsize=64)
def _listed(parent: str, stamp: int) -> dict[str, str]:
    """Names of the folders below a folder, by hash; ``stamp``, its modification time, keeps the cache up to date."""
    with os.scandir(parent) as found:
        names = sorted((item.name for item in found if _HASH.search(item.name) and item.is_dir()), reverse=True)
    return {hash_of(name): name for name in names}


def axes(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The flat columns to compare runs by: the chosen file of each group, and the fields swept most often."""
    chosen = {name: str(choices.get(name, "none")) for name in AXES}
    for name in ("attack/selection", "attack/strategy", "attack/loss"):
        chosen[name.replace("/", "_")] = str(choices.get(name, "none"))
    if links := [str(choices[name]) for name in sorted(map(str, choices)) if name.startswith("defense@defense.of.")]:
        chosen["defense"] = "+".join(links)  # a chain's defenses, in the order it applies them
    return {
        **chosen,
        "victim_adaptation": OmegaConf.select(cfg, "victim.adaptation", default="none"),
        "thief_adaptation": OmegaConf.select(cfg, "thief.adaptation", default="none"),
        "queries": to_whole(OmegaConf.select(cfg, "budget.queries")),
        "seed": cfg.seed,
    }


def victim_axes(found: Mapping[str, Any], seed: Any) -> dict[str, Any]:
    """The same columns for a run that only makes a victim, with the victim's seed; the others are ``none``.

    In the numeric column, None stands for ``none``.
    """
    none = dict.fromkeys(found, "none") | {"queries": None}
    return {name: found[name] if name in OF_VICTIM else none[name] for name in found} | {"seed": seed}


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Nested dictionaries as one flat dictionary with dotted keys."""
    if not isinstance(value, dict):
        return {key: value}
    inner = [flatten(v, f"{key}.{name}" if key else str(name)) for name, v in value.items()]
    return {k: v for part in inner for k, v in part.items()}


@functools.cache
def _contents(cache: str | None) -> Contents:
    return Contents(None if cache is None else Path(cache).absolute())
