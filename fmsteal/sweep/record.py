"""``sweep.json``: what a sweep was asked for, so that its folder alone tells what is missing from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fmsteal.errors import ConfigError
from fmsteal.results import SCHEMA, SWEEP, recorded
from fmsteal.store import explained, write_json
from fmsteal.sweep.grid import Grid


def require_same(folder: Path, grid: Grid) -> None:
    """Refuse a folder whose sweep has other settings where neither varies them: its name was taken by another sweep.

    A grid may grow: by more choices of an axis, by new axes, by seeds.

    Raises:
        ConfigError: it has.
        StoreError: it was written by a newer version.
    """
    before = recorded(folder)
    if before is None:
        return
    known = before.get("fixed", {})
    other = sorted(k for k in known.keys() & grid.fixed.keys() if known[k] != grid.fixed[k])
    if other:
        shown = "; ".join(f"{k}: {known[k]}, now {grid.fixed[k]}" for k in other[:5])
        more = f"; and {len(other) - 5} more" if len(other) > 5 else ""
        raise ConfigError(
            f"{folder} holds a sweep with other settings ({shown}{more}). Name this one differently: sweep_id=... . To "
            "have both in one table all the same: hydra.sweeper.mixed=true."
        )


def write(folder: Path, grid: Grid, command: str, conf: dict[str, str], code: Path | None = None) -> None:
    """Record the jobs asked for, beside those asked for before.

    The file holds ``fixed`` (settings that no job varies), ``jobs`` (by key: the victim's key, the overrides that make
    it, its axes, its cell), ``command`` (the one to continue), ``conf`` (where each config source was frozen) and
    ``code`` (the same of the package, if it was).
    """
    before = recorded(folder) or {}
    known = before.get("fixed", grid.fixed)
    fixed = {k: v for k, v in known.items() if k in grid.fixed and grid.fixed[k] == v}
    jobs = {
        cell.key: {"victim": cell.victim, "overrides": list(cell.overrides), "axis": cell.axis, "cell": cell.cell}
        for cell in grid.cells
    }
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "begun": before.get("begun", time.time()),
            "command": command,
            "conf": conf,
            "code": code and str(code),
            "fixed": fixed,
            "jobs": {**before.get("jobs", {}), **jobs},
        }
        write_json(folder / SWEEP, value)
