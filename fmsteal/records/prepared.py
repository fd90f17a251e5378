"""Notes of the victims that are in the store, by their own keys: ``<cache>/prepared/<hash>.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmsteal.base.store import read_json
from fmsteal.identity.keys import hash_of

PREPARED = "prepared"  # in the cache


def is_prepared(cache: Path, key: str) -> bool:
    """Whether the victim is in the store, whatever has changed since."""
    known = read_json(find_note(cache, key))
    return isinstance(known, dict) and (known.get("place") is None or (cache / known["place"]).is_dir())


def find_note(cache: Path, key: str) -> Path:
    """The file of a victim's note."""
    return cache / PREPARED / f"{hash_of(key)}.json"


def list_notes(cache: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The hash of each victim's key that is noted, and its note; what cannot be read as one is left out."""
    for file in sorted((cache / PREPARED).glob("*.json")):
        note = read_json(file)
        if isinstance(note, dict):
            yield file.stem, note
