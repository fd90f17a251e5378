"""``names.json``: the stable name, version and defaults of every class of ours that a config can name."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmsteal.config.moved import find_current
from fmsteal.identity.rules import Ignores

FILE = Path(__file__).with_name("names.json")
FACE = "fmsteal.extend"  # the module through which other packages' configs name our classes


@dataclass(frozen=True)
class Entry:
    """What is known about a class or function without importing it.

    Attributes:
        name: stable name, which stays when the class moves.
        version: raised by hand when the same options come to mean something else.
        defaults: default values of the options that have one.
        required: options without a default.
        machine: options that never count.
        ignores: options that have no effect, and when: see `fmsteal.identity.rules.declare`.
    """

    name: str
    version: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: Sequence[str] = ()
    machine: Sequence[str] = ()
    ignores: Ignores = field(default_factory=dict)


@functools.cache
def entries() -> dict[str, Entry]:
    """The whole table by import path."""
    return read(FILE)


def find(target: str) -> Entry | None:
    """The entry of an import path, including paths through `FACE` and old ones; None for foreign classes."""
    return entries().get(find_current(_behind_face().get(target, target)))


@functools.cache
def _behind_face() -> dict[str, str]:
    """Where the names of `FACE` are defined, read from its source, as importing it would import torch."""
    tree = ast.parse(Path(__file__).parents[1].joinpath("extend.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {f"{FACE}.{alias.name}": f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def read(file: Path) -> dict[str, Entry]:
    """Read a table from its file."""
    return {path: _entry(**known) for path, known in json.loads(file.read_text()).items()}


def _entry(required: Sequence[str] = (), machine: Sequence[str] = (), **known: Any) -> Entry:
    return Entry(required=tuple(required), machine=tuple(machine), **known)


def write(file: Path, table: Mapping[str, Entry]) -> None:
    """Write a table sorted by name, one line per entry: a class that moves changes one line."""
    lines = [f"  {json.dumps(path)}: {json.dumps(_short(table[path]))}" for path in sorted(table, key=_by_name(table))]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _by_name(table: Mapping[str, Entry]) -> Any:
    return lambda path: (table[path].name, path)


def _short(entry: Entry) -> dict[str, Any]:
    """An entry's name, version and defaults, and its other fields if they are not empty."""
    known: dict[str, Any] = {"name": entry.name, "version": entry.version, "defaults": dict(entry.defaults)}
    further = {
        "required": list(entry.required),
        "machine": sorted(entry.machine),
        "ignores": {name: dict(condition) for name, condition in entry.ignores.items()},
    }
    return known | {name: value for name, value in further.items() if value}
