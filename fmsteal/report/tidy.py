"""``fmsteal results``: a row for each job, a column for each figure; for eyes, as CSV, as Parquet. No torch."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from fmsteal.errors import FmstealError, StoreError
from fmsteal.report.headlines import HEADLINES
from fmsteal.report.status import error
from fmsteal.results import MISSING, Entry, begun, planned, recorded
from fmsteal.store import explained
from fmsteal.sweep.identity import AXES, axes

Row = dict[str, Any]
FIRST = ("sweep", "job_key", "state", "stage", "seed")
LAST = ("error", "folder")


def rows_of(folder: Path) -> list[Row]:
    """A row for each job of a sweep.

    Columns: ``sweep``, ``job_key``, ``state``, ``stage``, ``seed``, ``axis.*``, the metrics and costs by their names,
    ``<metric>.low`` and ``<metric>.high`` of the intervals, ``error``, ``folder``. What a job has not, its row has not.
    """
    jobs = planned(folder)
    return [_row(job, folder.absolute().name) for job in (begun(folder) if jobs is None else jobs)]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns: what identifies a job, the axes, the figures by name, then where to look."""
    names = {name for row in rows for name in row}
    known = [f"axis.{name}" for name in AXES]
    axis = [n for n in known if n in names] + sorted(n for n in names if n.startswith("axis.") and n not in known)
    return [*FIRST, *axis, *sorted(names - {*FIRST, *axis, *LAST}), *LAST]


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """Write the table as CSV, an empty field where a job has no such figure; ``-`` is the standard output."""
    if str(file) == "-":
        _csv(rows, sys.stdout)
        return
    with explained(file.absolute().parent), file.open("w", newline="") as stream:
        _csv(rows, stream)


def write_parquet(rows: Sequence[Row], file: Path) -> None:
    """Write the table as Parquet, null where a job has no such figure.

    Raises:
        FmstealError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as absent:
        raise FmstealError(
            "Parquet is written by pyarrow, which is not installed: pip install 'fmsteal[parquet]'. CSV needs nothing "
            "more: --csv FILE."
        ) from absent
    table = pyarrow.table({name: _of_one_type([row.get(name) for row in rows]) for name in columns_of(rows)})
    with explained(file.absolute().parent):
        parquet.write_table(table, file)


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table: the axes that vary, the headline figures; what is the same in all rows stands above it."""
    varying = [
        c for c in columns_of(rows) if c.startswith("axis.") and len({str(r.get(c)) for r in rows if c in r}) > 1
    ]
    sweeps = len({row["sweep"] for row in rows}) > 1
    figures = [name for name in HEADLINES if any(name in row for row in rows)]
    table = Table()
    for name in (*(["sweep"] if sweeps else []), "job", *(c.removeprefix("axis.") for c in varying), "seed", "state"):
        table.add_column(name, overflow="fold")
    for name in (*(HEADLINES[f] for f in figures), "95 % interval", "queries", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        interval = [row.get(f"test/agreement.{end}") for end in ("low", "high")]
        table.add_row(
            *([row["sweep"]] if sweeps else []),
            row["job_key"][-8:] if varying and any(c in row for c in varying) else row["job_key"],
            *("" if row.get(c) is None else str(row[c]) for c in (*varying, "seed")),
            row["state"],
            *(_figure(row.get(f), 3) for f in figures),
            "" if None in interval else f"{_figure(interval[0], 3)} to {_figure(interval[1], 3)}",
            _figure(row.get("cost/queries"), 0),
            _figure(row.get("cost/seconds"), 0),
        )
    console.print(table)
    same = [c for c in columns_of(rows) if c.startswith("axis.") and c not in varying]
    known = {c.removeprefix("axis."): next(str(r[c]) for r in rows if c in r) for c in same}
    if known and len(rows) > 1:
        text = ", ".join(f"{name}={value}" for name, value in known.items() if value != "none")
        console.print(f"in all: {text}", highlight=False)
    console.print("every figure: --csv FILE or --parquet FILE", highlight=False)


def _row(job: Entry, sweep: str) -> Row:
    row: Row = {"sweep": sweep, "job_key": job.key, "state": job.state, "stage": job.stage, "folder": str(job.folder)}
    if job.result is not None:
        result = job.result
        row |= _mapping(result, "metrics") | _mapping(result, "cost")
        for name, ends in _mapping(result, "intervals").items():
            row |= {f"{name}.low": ends[0], f"{name}.high": ends[1]}
    else:
        row["error"] = error(job) or None
    axis = axis_of(job)
    row["seed"] = axis.get("seed")
    return row | {f"axis.{name}": value for name, value in axis.items() if name != "seed"}


def axis_of(job: Entry) -> Row:
    """The axes of a job, by name; none where nothing tells."""
    return job.axis or ({} if job.state == MISSING else _begun_axes(job.folder))


def _mapping(record: Row, name: str) -> Row:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _begun_axes(folder: Path) -> Row:
    """The axes of a job without a result, from what Hydra wrote down when it was begun."""
    try:
        cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
        choices = OmegaConf.select(OmegaConf.load(folder / ".hydra" / "hydra.yaml"), "hydra.runtime.choices")
        return axes(cfg, choices)  # type: ignore[arg-type]
    except Exception:  # absent, or damaged in whatever way: the row says the rest
        return {}


def _csv(rows: Sequence[Row], stream: Any) -> None:
    writer = csv.DictWriter(stream, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _of_one_type(values: Sequence[Any]) -> list[Any]:
    """A column as numbers if all of it are, else as text."""
    there = [v for v in values if v is not None]
    if all(isinstance(v, int) for v in there):
        return list(values)
    if all(isinstance(v, int | float) for v in there):
        return [None if v is None else float(v) for v in values]
    return [None if v is None else str(v) for v in values]


def _figure(value: Any, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else ""


def require_jobs(folder: Path) -> None:
    """Refuse a folder that is no sweep's.

    Raises:
        StoreError: it does not exist, or holds no job; sweeps below it are named.
    """
    if not folder.is_dir():
        raise StoreError(
            f"There is no folder {folder}. A sweep's is outputs/sweeps/<sweep_id>, single jobs are in outputs/runs."
        )
    if recorded(folder) is not None or any(folder.glob("*/.hydra")) or (folder / "multirun.yaml").exists():
        return
    below = sorted(str(p) for p in folder.iterdir() if p.is_dir() and any(p.glob("*/.hydra")))
    hint = f"Sweeps below it: {', '.join(below[:8])}." if below else "A sweep's folder is outputs/sweeps/<sweep_id>."
    if (folder / ".hydra").is_dir():
        hint = f"It is a single job's; its sweep is {folder.absolute().parent}."
    raise StoreError(f"{folder} is no sweep: it holds no folders of jobs. {hint}")
