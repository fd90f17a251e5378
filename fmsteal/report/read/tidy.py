"""``fmsteal results``: a row for each job, a column for each figure; for the terminal, CSV and Parquet. No torch."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.base.shown import escape_cell
from fmsteal.base.store import explain_errors
from fmsteal.identity.keys import AXES, axes
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import MISSING, JobOnDisk, list_begun, list_job_folders, list_planned, read_plan
from fmsteal.report.read import majority
from fmsteal.report.read.interval import IMAGES
from fmsteal.report.read.status import describe_error

Row = dict[str, Any]
FIRST = ("sweep", "job_key", "state", "stage", "seed")
LAST = ("error", "folder")


def make_rows(folder: Path) -> list[Row]:
    """A row for each job of a sweep.

    Columns: ``sweep``, ``job_key``, ``state``, ``stage``, ``seed``, ``axis.*``, the metrics and costs by their names,
    ``<metric>.low`` and ``<metric>.high`` (ends of the intervals), ``intervals_cover`` (what these cover),
    ``<metric>.majority`` (of the thief that always answers the majority class), ``error``, ``folder``. A row lacks what
    its job does not have.
    """
    jobs = list_planned(folder)
    return [_row(job, folder.absolute().name) for job in (list_begun(folder) if jobs is None else jobs)]


def list_columns(rows: Sequence[Row]) -> list[str]:
    """All columns: what identifies a job, the axes, the figures by name, then the error and the folder."""
    names = {name for row in rows for name in row}
    known = [f"axis.{name}" for name in AXES]
    axis = [n for n in known if n in names] + sorted(n for n in names if n.startswith("axis.") and n not in known)
    return [*FIRST, *axis, *sorted(names - {*FIRST, *axis, *LAST}), *LAST]


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """Write the table as CSV, with empty fields for missing figures; ``-`` is the standard output.

    Text that a spreadsheet would take for a formula is prefixed with an apostrophe.
    """
    if str(file) == "-":
        _csv(rows, sys.stdout)
        return
    with explain_errors(file.absolute().parent), file.open("w", newline="") as stream:
        _csv(rows, stream)


def write_parquet(rows: Sequence[Row], file: Path) -> None:
    """Write the table as Parquet, with null for missing figures.

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
    table = pyarrow.table({name: _of_one_type([row.get(name) for row in rows]) for name in list_columns(rows)})
    with explain_errors(file.absolute().parent):
        parquet.write_table(table, file)


def _row(job: JobOnDisk, sweep: str) -> Row:
    row: Row = {"sweep": sweep, "job_key": job.key, "state": job.state, "stage": job.stage, "folder": str(job.folder)}
    if job.result is not None:
        result = job.result
        row |= _mapping(result, "metrics") | _mapping(result, "cost")
        if own := _mapping(result, "intervals"):
            row["intervals_cover"] = IMAGES
        for name, ends in own.items():
            row |= {f"{name}.low": ends[0], f"{name}.high": ends[1]}
        row |= {f"{name}.majority": value for name, value in majority.scores(job.folder).items() if name in row}
    else:
        row["error"] = describe_error(job) or None
    axis = axis_of(job)
    row["seed"] = axis.get("seed")
    return row | {f"axis.{name}": value for name, value in axis.items() if name != "seed"}


def axis_of(job: JobOnDisk) -> Row:
    """The axes of a job, by name; empty if not known."""
    return job.axis or ({} if job.state == MISSING else _begun_axes(job.folder))


def _mapping(record: Row, name: str) -> Row:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _begun_axes(folder: Path) -> Row:
    """The axes of a job without a result, from the config that Hydra wrote when it began."""
    try:
        job = JobFolder(folder)
        cfg = OmegaConf.load(job.config)
        choices = OmegaConf.select(OmegaConf.load(job.choices), "hydra.runtime.choices")
        return axes(cfg, choices)  # type: ignore[arg-type]
    except Exception:  # absent, or damaged in any way: the row holds the rest
        return {}


def _csv(rows: Sequence[Row], stream: Any) -> None:
    columns = list_columns(rows)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([escape_cell(name) for name in columns])
    writer.writerows([escape_cell(row.get(name, "")) for name in columns] for row in rows)


def _of_one_type(values: Sequence[Any]) -> list[Any]:
    """A column as numbers if all its values are numbers, else as text."""
    there = [v for v in values if v is not None]
    if all(isinstance(v, int) for v in there):
        return list(values)
    if all(isinstance(v, int | float) for v in there):
        return [None if v is None else float(v) for v in values]
    return [None if v is None else str(v) for v in values]


def require_jobs(folder: Path) -> None:
    """Refuse a folder that is not a sweep's.

    Raises:
        StoreError: the folder does not exist, or holds no job; the message names sweeps below it.
    """
    if not folder.is_dir():
        raise StoreError(
            f"There is no folder {folder}. A sweep's is outputs/sweeps/<sweep_id>, single jobs are in outputs/runs."
        )
    if read_plan(folder) is not None or any(list_job_folders(folder)) or (folder / "multirun.yaml").exists():
        return
    below = sorted(str(p) for p in folder.iterdir() if p.is_dir() and any(list_job_folders(p)))
    hint = f"Sweeps below it: {', '.join(below[:8])}." if below else "A sweep's folder is outputs/sweeps/<sweep_id>."
    if JobFolder(folder).hydra.is_dir():
        hint = f"It is a single job's; its sweep is {folder.absolute().parent}."
    raise StoreError(f"{folder} is no sweep: it holds no folders of jobs. {hint}")
