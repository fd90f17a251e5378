"""Which victims are in the store, without importing torch or opening their data.

An artifact in the store is named by the content of its data, which only a job that has opened the data knows. The first
job that prepares a victim therefore leaves a note under the hash of the victim's own key, in ``<cache>/prepared/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fmsteal.base.store import MANIFEST, read_json, write_json
from fmsteal.identity.keys import flatten, hash_of, identity
from fmsteal.identity.kinds import name_victim_kind
from fmsteal.records import results

PREPARED = "prepared"  # in the cache: a note for each victim's key, by its hash


def is_ready(cfg: DictConfig, key: str) -> bool:
    """Whether the victim is in the store and nothing it was made from has changed since."""
    if not is_prepared(Path(cfg.cache), key):
        return False
    return bool(read_json(_note(Path(cfg.cache), key))["paths"] == _paths(cfg))


def is_prepared(cache: Path, key: str) -> bool:
    """Whether the victim is in the store, whatever has changed since."""
    known = read_json(_note(cache, key))
    return isinstance(known, dict) and (known.get("place") is None or (cache / known["place"]).is_dir())


def remember(
    cfg: DictConfig,
    key: str,
    victim: str,
    place: Path | None,
    run: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> dict[str, Any] | None:
    """Note that the victim is prepared, of which kind it is and what it took, on which ``device``.

    ``place`` is its folder in the store, if it needs one.

    Returns:
        The tracker's identity of the run that made the victim: ``run``, unless an earlier note names another.
    """
    path = _note(Path(cfg.cache), key)
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = None if place is None else place.relative_to(Path(cfg.cache).absolute()).as_posix()
    before = read_json(path)
    same = isinstance(before, dict) and before.get("victim") == victim
    maker, device = (before.get("run"), before.get("device", device)) if same else (run, device)
    took = None if place is None else (read_json(place / MANIFEST) or {}).get("seconds")
    time = {"kind": name_victim_kind(flatten(identity(cfg))), "seconds": took, "device": device}
    known = {"victim": victim, "place": inside, "paths": _paths(cfg), "run": maker, **time}
    if before != known:
        write_json(path, known)
    return maker if maker is None else dict(maker)


def _note(cache: Path, key: str) -> Path:
    return cache / PREPARED / f"{hash_of(key)}.json"


def _paths(cfg: DictConfig) -> dict[str, Any]:
    return results.stamp_paths(cfg, ("data", "victim"))
