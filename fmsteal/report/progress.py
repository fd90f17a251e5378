"""How far the jobs of a sweep are, and how long the rest will take: read from their folders. Imports no torch."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from fmsteal.oracle.ledger import paid
from fmsteal.results import DONE, EPOCHS, MISSING, RESULT, RUNNING, Entry
from fmsteal.store import read_json

TAIL = 2**14  # bytes at the end of a log of curves: its last point is in them


@dataclass(frozen=True)
class Progress:
    """Where a job is.

    Attributes:
        stage: ``starting``, ``queries``, or what is being trained (``victim``, ``thief``, ...).
        done: queries paid for, or epochs.
        of: how many there will be; None where that is not known.
        seconds: spent on the job so far, interruptions left out.
    """

    stage: str
    done: int = 0
    of: int | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """``queries 300 of 1,000``, ``thief epoch 3 of 20``."""
        if self.stage == "starting":
            return self.stage
        unit = "" if self.stage == "queries" else " epoch"
        return f"{self.stage}{unit} {self.done:,}" + (f" of {self.of:,}" if self.of else "")


def progress(folder: Path) -> Progress:
    """How far the job in ``folder`` is: the file that it wrote to last tells."""
    ledger, curves = folder / "ledger.bin", folder / "metrics.csv"
    cost = read_json(folder / "work" / "cost.json")
    seconds = cost.get("cost/seconds", 0.0) if isinstance(cost, dict) else 0.0
    answered, point = paid(ledger), _last_point(curves)
    if point and (not answered or _changed(curves) >= _changed(ledger)):
        stage, epoch = point
        known = read_json(folder / "work" / stage / EPOCHS) or _setting(folder, f"{stage}.recipe.epochs")
        return Progress(stage, epoch, known if isinstance(known, int) and known >= epoch else None, seconds)
    if answered:
        return Progress("queries", answered, _setting(folder, "budget.queries"), seconds)
    return Progress("starting", seconds=seconds)


def time_left(entries: Sequence[Entry]) -> float | None:
    """Seconds until the jobs that run or wait are done, as many at a time as run now; None if nothing tells.

    A job is expected to take as long as the finished ones that have most of their overrides in common with it.
    """
    finished = [(set(e.overrides), s) for e in entries if (s := _taken(e)) is not None]
    if not finished:
        return None
    running = [e for e in entries if e.state == RUNNING]
    work = [max(0.0, _expected(e, finished) - progress(e.folder).seconds) for e in running]
    waiting = [_expected(e, finished) for e in entries if e.state == MISSING]
    return max([sum(work + waiting) / max(1, len(running)), *work])


def seconds_of(entry: Entry) -> float | None:
    """What a finished job took; None for others."""
    if entry.state != DONE or entry.result is None:
        return None
    seconds = (entry.result.get("cost") or {}).get("cost/seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _taken(entry: Entry) -> float | None:
    """The same with what came before the job's own clock: a process of its own imports PyTorch first.

    Of a result that was taken over from another sweep the files' times tell nothing.
    """
    seconds = seconds_of(entry)
    if seconds is None or "shared_from" in (entry.result or {}):
        return seconds
    try:
        begun = (entry.folder / ".hydra" / "overrides.yaml").stat().st_mtime
        return max(seconds, (entry.folder / RESULT).stat().st_mtime - begun)
    except OSError:
        return seconds


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _expected(entry: Entry, finished: Sequence[tuple[set[str], float]]) -> float:
    common = [len(words & set(entry.overrides)) for words, _ in finished]
    alike = [seconds for (_, seconds), n in zip(finished, common, strict=True) if n == max(common)]
    return statistics.fmean(alike)


def _last_point(curves: Path) -> tuple[str, int] | None:
    """The stage and epoch of the last row; a torn one is passed over."""
    try:
        with curves.open("rb") as stream:
            stream.seek(max(0, curves.stat().st_size - TAIL))
            lines = stream.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return None
    for row in csv.reader(reversed(lines)):
        if len(row) == 4 and row[0].endswith("/epoch"):
            try:
                return row[0].removesuffix("/epoch"), int(float(row[1]))
            except ValueError:
                continue
    return None


def _setting(folder: Path, key: str) -> int | None:
    """A number of the job's config, which Hydra wrote down when it was begun."""
    try:
        value = OmegaConf.select(OmegaConf.load(folder / ".hydra" / "config.yaml"), key)
    except Exception:  # an absent or damaged file, a key that this job does not have
        return None
    return value if isinstance(value, int) else None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
