"""The progress of a sweep's jobs and the time left, read from their folders. Imports no torch."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base.store import is_there, read_json
from fmsteal.oracle.ledger import count_paid
from fmsteal.records.folders import JobFolder, TheftFolder, find_theft
from fmsteal.records.results import DONE, EPOCHS, MISSING, QUEUED, RUNNING, JobOnDisk
from fmsteal.records.shapes import is_number

TAIL = 2**14  # bytes at the end of a file of curves that are read for its last point


@dataclass(frozen=True)
class JobProgress:
    """The progress of a job.

    Attributes:
        stage: ``starting``, ``queries``, what is being trained (``victim``, ``thief``, ...), or ``measuring``.
        done: queries paid for, or epochs.
        of: how many queries or epochs there will be; None if not known.
        seconds: time spent on the job so far, without interruptions.
    """

    stage: str
    done: int = 0
    of: int | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """``queries 300 of 1,000``, ``thief epoch 3 of 20``."""
        if self.stage in ("starting", "measuring"):
            return self.stage
        unit = "" if self.stage == "queries" else " epoch"
        return f"{self.stage}{unit} {self.done:,}" + (f" of {self.of:,}" if self.of else "")


def read_progress(folder: Path) -> JobProgress:
    """The progress of the job in ``folder``, from the file last written to in its folder or its theft's."""
    job = JobFolder(folder)
    theft = find_theft(job)
    ledger = theft.ledger if theft else job.old_ledger
    places: list[JobFolder | TheftFolder] = [theft, job] if theft else [job]
    curves = max((place.curves for place in places), key=_touched)
    seconds = _spent(places)
    if theft and is_there(theft.seal):
        return JobProgress("measuring", seconds=seconds)
    answered, point = count_paid(ledger), _last_point(curves)
    if point and (not answered or _touched(curves) >= _touched(ledger)):
        return JobProgress(*point, _epochs(job, places, *point), seconds)
    if answered:
        return JobProgress("queries", answered, _setting(job, "budget.queries"), seconds)
    return JobProgress("starting", seconds=seconds)


def _spent(places: Sequence[JobFolder | TheftFolder]) -> float:
    """The seconds that a job has recorded; 0 if it has not, or if its record is damaged."""
    cost = next((found for place in places if isinstance(found := _json(place.cost), dict)), {})
    seconds = cost.get("cost/seconds", 0.0)
    return float(seconds) if is_number(seconds) and 0 <= seconds < math.inf else 0.0


def _epochs(job: JobFolder, places: Sequence[JobFolder | TheftFolder], stage: str, epoch: int) -> int | None:
    """The number of epochs of a training that is at ``epoch``, from its record or the config; None if neither fits."""
    known = next((n for place in places if (n := _json(place.work / stage / EPOCHS))), None)
    known = known or _setting(job, f"{stage}.recipe.epochs")
    return known if isinstance(known, int) and known >= epoch else None


def estimate_time_left(entries: Sequence[JobOnDisk]) -> float | None:
    """Seconds until all jobs are done, with as many at a time as now; None if no job has finished.

    A job is expected to take as long as those finished jobs that have the most overrides in common with it.
    """
    finished = [(set(e.overrides), s) for e in entries if (s := _taken(e)) is not None]
    if not finished:
        return None
    running = [e for e in entries if e.state == RUNNING]
    work = [max(0.0, _expected(e, finished) - read_progress(e.folder).seconds) for e in running]
    waiting = [_expected(e, finished) for e in entries if e.state in (MISSING, QUEUED)]
    return max([sum(work + waiting) / max(1, len(running)), *work])


def seconds_of(entry: JobOnDisk) -> float | None:
    """How long a finished job took; None for others."""
    if entry.state != DONE or entry.result is None:
        return None
    seconds = (entry.result.get("cost") or {}).get("cost/seconds")
    return float(seconds) if is_number(seconds) and 0 <= seconds < math.inf else None


def _taken(entry: JobOnDisk) -> float | None:
    """Like `seconds_of`, with the time before the job's own clock: a new process imports PyTorch first."""
    seconds = seconds_of(entry)
    if seconds is None:
        return None
    try:
        job = JobFolder(entry.folder)
        return max(seconds, job.result.stat().st_mtime - job.overrides.stat().st_mtime)
    except OSError:
        return seconds


def format_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _expected(entry: JobOnDisk, finished: Sequence[tuple[set[str], float]]) -> float:
    common = [len(words & set(entry.overrides)) for words, _ in finished]
    alike = [seconds for (_, seconds), n in zip(finished, common, strict=True) if n == max(common)]
    return statistics.fmean(alike)


def _last_point(curves: Path) -> tuple[str, int] | None:
    """The stage and epoch of the last row; torn rows are skipped."""
    try:
        with curves.open("rb") as stream:
            stream.seek(max(0, curves.stat().st_size - TAIL))
            lines = stream.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return None
    for line in reversed(lines):
        try:
            row = next(csv.reader([line]), [])
            if len(row) == 4 and row[0].endswith("/epoch") and "\0" not in row[0]:
                return row[0].removesuffix("/epoch"), int(float(row[1]))
        except (ValueError, OverflowError, csv.Error):
            continue
    return None


def _setting(job: JobFolder, key: str) -> int | None:
    """An integer in the job's config, which Hydra wrote when the job began."""
    try:
        value = OmegaConf.select(OmegaConf.load(job.config), key)
    except Exception:  # an absent or damaged file, a key that this job does not have
        return None
    return value if isinstance(value, int) else None


def _json(path: Path) -> Any:
    """The content of a JSON file; None also if it may not be read."""
    try:
        return read_json(path)
    except OSError:
        return None


def _touched(path: Path) -> float:
    """When a file was last written to; 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
