"""Which output folders use a store: only there can be seen what in it is still needed. Imports no torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fmsteal.base.store import digest, read_json, write_json

USERS = "used_by"  # in a store: a file for each output folder whose jobs use it


def register(cache: Path, output: Path) -> None:
    """Note in a store that jobs below ``output`` use it, once."""
    whole = output.absolute()
    note = _note(cache, whole)
    if note.exists():
        return
    with suppress(OSError):  # a store that may only be read
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"output": str(whole)})


def list_users(cache: Path) -> list[Path]:
    """The output folders whose jobs have used a store, as they were named; the folder around it always counts."""
    notes = [read_json(file) for file in sorted((cache / USERS).glob("*.json"))]
    named = {Path(note["output"]) for note in notes if isinstance(note, dict) and isinstance(note.get("output"), str)}
    return sorted({cache.absolute().parent, *named})


def forget(cache: Path, output: Path) -> bool:
    """Remove the note that ``output`` uses a store; whether there was one."""
    note = _note(cache, output.absolute())
    there = note.exists()
    note.unlink(missing_ok=True)
    return there


def _note(cache: Path, output: Path) -> Path:
    return cache / USERS / f"{digest(str(output))[:16]}.json"
