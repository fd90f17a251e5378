"""Where a run's curves and figures go. The disk is authoritative: every tracker writes a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from fmsteal.records.folders import JobFolder

COLUMNS = ("x_name", "x", "metric", "value")
Point = tuple[str, float, str, float]  # one row


@dataclass(frozen=True)
class RunInfo:
    """What identifies a run to a tracker.

    Attributes:
        key: the job's key.
        folder: the job's folder.
        axis: the choices by which runs are compared (``victim``, ``budget``, ...), by name; where one does not apply,
            ``none``, or None for a number.
        config: the resolved config.
        group: the sweep's id, or None for a single run.
        git: commit of the code, or None.
        kind: what the run makes: a thief, or a victim alone; or a cell, the means of jobs that differ in the seed.
        curves: the file that its curves go to; None for the job's own.
        name: the name shown in a list of runs; if empty, the key.
        jobs: how many jobs its sweep has.
        requeued: whether a job that ends itself (SystemExit) is queued again, as on Slurm.
    """

    key: str
    folder: Path
    axis: Mapping[str, Any]
    config: Mapping[str, Any]
    group: str | None = None
    git: str | None = None
    kind: Literal["thief", "victim", "cell"] = "thief"
    name: str = ""
    jobs: int = 1
    requeued: bool = False
    curves: Path | None = None


class Tracker(Protocol):
    """Receives figures while a run is under way."""

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Add a point to each curve; ``x`` names and gives the horizontal axis (``("thief/epoch", 3)``)."""
        ...

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Set the final figures."""
        ...

    def image(self, name: str, path: Path) -> None:
        """Show a picture that lies in the job's folder."""
        ...

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Show pictures, each with its caption."""
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table; its cells are numbers, text or None."""
        ...

    def artifact(self, kind: str, path: Path) -> None:
        """Offer a file or a folder to be kept with the run: the ``victim``, the ``thief``, the ``predictions``."""
        ...

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Link another run (its `identity`, None if unknown) that something came from, as ``victim_run``."""
        ...

    @property
    def identity(self) -> dict[str, Any] | None:
        """``id`` and ``url``, for other runs to link to; None if there is nothing to link to."""
        ...

    @property
    def latest(self) -> Mapping[str, float]:
        """The last point of each curve that was logged here."""
        ...

    @property
    def place(self) -> str:
        """Where a person finds the run: a URL, or a path and how to sync it."""
        ...


class Tracking(Protocol):
    """A tracker's config, which opens runs. One whose ``cells`` is true also gets a run for each cell of a sweep."""

    def open(self, run: RunInfo) -> AbstractContextManager[Tracker]:
        """Track one run until the block ends; it counts as failed if the block raises."""
        ...


class CsvTracker:
    """Writes curves as rows ``x_name, x, metric, value`` to the theft's or job's CSV file; tables to ``tables/``."""

    identity: dict[str, Any] | None = None

    def __init__(self, folder: Path, curves: Path | None = None) -> None:
        self.folder = JobFolder(folder)
        self.path = curves or self.folder.curves
        self.latest: dict[str, float] = {}

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Append a row for each metric."""
        self.latest.update(metrics)
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            rows = csv.writer(stream)
            if fresh:
                rows.writerow(COLUMNS)
            rows.writerows((*x, name, value) for name, value in metrics.items())

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Nothing to do: the final figures are in ``result.json``."""

    def image(self, name: str, path: Path) -> None:
        """Nothing to do: the file is in the job's folder."""

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Nothing to do: they are test images, and ``predictions.npz`` holds the predictions for each."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write ``tables/<name>.csv``."""
        write_table(self.folder.tables, name, columns, rows)

    def artifact(self, kind: str, path: Path) -> None:
        """Nothing to do: it is on the disk."""

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Nothing to do: nobody can follow the link from here."""

    def points(self) -> list[Point]:
        """What has been logged so far, including by earlier interrupted runs."""
        return read_points(self.path)

    @property
    def place(self) -> str:
        """The CSV file that the job's own folder holds in the end."""
        return str(self.folder.curves)


def read_points(curves: Path) -> list[Point]:
    """The points of a file of curves; a torn last line and damaged lines are skipped."""
    if not curves.exists():
        return []
    with curves.open(newline="", errors="replace") as stream:
        rows = [row for row in csv.reader(stream) if len(row) == 4 and row != list(COLUMNS)]
    found = []
    for name, x, metric, value in rows:
        with suppress(ValueError):
            found.append((name, float(x), metric, float(value)))
    return found


def keep_last(curves: Path) -> None:
    """Sort the rows and keep the last of each point that a resumed run logged again; create the file if missing."""
    last = {(name, x, metric): value for name, x, metric, value in read_points(curves)}
    fresh = curves.with_suffix(".tmp")
    with fresh.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(COLUMNS)
        rows.writerows((*point, last[point]) for point in sorted(last))
    fresh.replace(curves)


def write_table(folder: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as ``<name>.csv``; the name may contain folders."""
    path = folder / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows((columns, *rows))


class CsvTracking:
    """``tracker=none``: no service, the CSV file only."""

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[Tracker]:
        """Track one run."""
        yield CsvTracker(run.folder, run.curves)
