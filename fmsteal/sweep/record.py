"""``sweep.json``: what a sweep was asked for, so that its folder alone shows what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmsteal.base.errors import ConfigError
from fmsteal.base.lease import lease
from fmsteal.base.store import explain_errors, write_json
from fmsteal.records.folders import SweepFolder
from fmsteal.records.results import SCHEMA, read_plan
from fmsteal.sweep.grid import Grid


def refuse_earlier(folder: Path) -> None:
    """Refuse to continue a sweep whose jobs have keys of an earlier kind: all thefts would be made again.

    Raises:
        ConfigError: the sweep was begun by an earlier version.
        StoreError: it was begun by a newer version.
    """
    before = read_plan(folder)
    if before is not None and before.get("schema", 1) < SCHEMA:
        raise ConfigError(
            f"{folder} was begun by an earlier fmsteal, whose jobs have other keys: finish it with that version, or "
            "give this sweep another name: sweep_id=..."
        )


def require_same(folder: Path, grid: Grid) -> None:
    """Refuse a folder whose sweep differs in settings that neither sweep varies: another sweep has taken the name.

    A grid may grow: by more choices of an axis, by new axes, by seeds.

    Raises:
        ConfigError: the settings differ.
        StoreError: the record was written by a newer version.
    """
    before = read_plan(folder)
    if before is None:
        return
    known, varied = before.get("fixed", {}), grid.varied | set(before.get("varied", ()))
    fixed = (known.keys() | grid.fixed.keys()) - varied
    other = sorted(k for k in fixed if _differ(k, known, grid.fixed))
    if other:
        shown = "; ".join(f"{k}: {known.get(k, 'default')}, now {grid.fixed.get(k, 'default')}" for k in other[:5])
        more = f"; and {len(other) - 5} more" if len(other) > 5 else ""
        raise ConfigError(
            f"{folder} holds a sweep with other settings ({shown}{more}). Name this one differently: sweep_id=... . To "
            "have both in one table all the same: hydra.sweeper.mixed=true."
        )


def _differ(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a setting that neither sweep varies differs; one that is left out is at its default.

    If the classes differ, an option that only one of them has does not count.
    """
    if key in before and key in now:
        return bool(before[key] != now[key])
    owner = key
    while owner:
        owner = owner.rpartition(".")[0]
        name = f"{owner}.name"
        if name in before or name in now:
            return before.get(name) == now.get(name)
    return True


def write(folder: Path, grid: Grid, command: str | None, conf: dict[str, str], code: Path | None = None) -> None:
    """Record the jobs asked for, in addition to those asked for before.

    The file holds ``fixed`` (settings that no job varies), ``varied`` (names of the others), ``jobs`` (by key: the
    victim's key, the job's overrides, axes and cell), ``command`` (continues the sweep; None keeps the earlier one),
    ``conf`` (the frozen copy of each config source) and ``code`` (that of the package, if there is one). Commands that
    write at the same time, such as those that agents start, wait for one another.
    """
    with explain_errors(folder), lease(SweepFolder(folder).record, "this sweep's record"):
        _write(folder, grid, command, conf, code)


def _write(folder: Path, grid: Grid, command: str | None, conf: dict[str, str], code: Path | None) -> None:
    before = read_plan(folder) or {}
    known = before.get("fixed", grid.fixed)
    fixed = {k: v for k, v in known.items() if k in grid.fixed and grid.fixed[k] == v}
    jobs = {
        job.key: {"victim": job.victim, "overrides": list(job.overrides), "axis": job.axis, "cell": job.cell}
        for job in grid.jobs
    }
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "begun": before.get("begun", time.time()),
        "command": command or before.get("command"),
        "conf": conf,
        "code": code and str(code),
        "fixed": fixed,
        "varied": sorted({*before.get("varied", ()), *grid.varied, *(known.keys() ^ fixed.keys())}),
        "jobs": {**before.get("jobs", {}), **jobs},
    }
    write_json(SweepFolder(folder).record, value)
