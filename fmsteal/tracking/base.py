"""Where a run's curves and figures go. Disk is the truth: every tracker writes ``metrics.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunInfo:
    """What identifies a run to a tracker.

    Attributes:
        key: the job's key.
        folder: the job's folder.
        axis: the choices that compare runs (``victim``, ``budget``, ...), by name; ``none`` where not applicable.
        config: the resolved config.
        group: the sweep's id, or None for a single run.
        git: commit of the code, or None.
    """

    key: str
    folder: Path
    axis: Mapping[str, Any]
    config: Mapping[str, Any]
    group: str | None = None
    git: str | None = None


class Tracker(Protocol):
    """Takes figures while a run is under way."""

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Add a point to each curve; ``x`` names and gives the horizontal axis (``("thief/epoch", 3)``)."""
        ...

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Set the final figures."""
        ...

    @property
    def place(self) -> str:
        """Where a person finds the run: a URL, or a path and how to sync it."""
        ...


class Tracking(Protocol):
    """A tracker's config: opens a run."""

    def open(self, run: RunInfo) -> AbstractContextManager[Tracker]:
        """Track one run until the block ends; it counts as failed if the block raises."""
        ...


class CsvTracker:
    """Curves as rows ``x_name, x, metric, value`` of ``metrics.csv`` in the job's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Append a row for each metric."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            rows = csv.writer(stream)
            if fresh:
                rows.writerow(("x_name", "x", "metric", "value"))
            rows.writerows((*x, name, value) for name, value in metrics.items())

    def summary(self, metrics: Mapping[str, float]) -> None:
        """The final figures are in ``result.json``; keep one row of each point, where a resumed run wrote it again."""
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            last = {line.rpartition(",")[0]: line for line in lines}
            self.path.write_text("".join(last.values()))

    @property
    def place(self) -> str:
        """The CSV file."""
        return str(self.path)


class CsvTracking:
    """``tracker=none``: no service, the CSV file only."""

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[Tracker]:
        """Track one run."""
        yield CsvTracker(run.folder)
