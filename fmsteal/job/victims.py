"""Which victims are in the store, without importing torch or opening their data.

An artifact in the store is named by the content of its data, which only a job that has opened the data knows. The first
job that prepares a victim therefore leaves a note under the hash of the victim's own key, in ``<cache>/prepared/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fmsteal.base.store import read_json, write_json
from fmsteal.records import results
from fmsteal.records.prepared import find_note, is_prepared


def is_ready(cfg: DictConfig, key: str) -> bool:
    """Whether the victim is in the store and nothing it was made from has changed since."""
    if not is_prepared(Path(cfg.cache), key):
        return False
    return bool(read_json(find_note(Path(cfg.cache), key))["paths"] == _paths(cfg))


def remember(
    cfg: DictConfig, key: str, victim: str, place: Path | None, run: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Note that the victim is prepared; ``place`` is its folder in the store, if it needs one.

    Returns:
        The tracker's identity of the run that made the victim: ``run``, unless an earlier note names another.
    """
    path = find_note(Path(cfg.cache), key)
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = None if place is None else place.relative_to(Path(cfg.cache).absolute()).as_posix()
    before = read_json(path)
    maker = before.get("run") if isinstance(before, dict) and before.get("victim") == victim else run
    known = {"victim": victim, "place": inside, "paths": _paths(cfg), "run": maker}
    if before != known:
        write_json(path, known)
    return maker if maker is None else dict(maker)


def _paths(cfg: DictConfig) -> dict[str, Any]:
    return results.stamp_paths(cfg, ("data", "victim"))
