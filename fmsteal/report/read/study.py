"""The results of one or several sweeps, cell by cell: means over seeds with intervals, and what is missing.

Jobs that differ in the seed alone share a cell. A planned job without a result stays in its cell, so that no mean hides
it. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmsteal.base.errors import FmstealError
from fmsteal.identity.keys import ANY_SEED, AXES, cell_key, is_digest
from fmsteal.records.folders import SweepFolder
from fmsteal.records.results import DONE, JobOnDisk, Result, list_begun, list_planned
from fmsteal.report.read.about import About, bounds, describe, guess
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.interval import IMAGES, Bounds, Interval, SeedFigure, count_images, interval_over
from fmsteal.report.read.tidy import axis_of, require_jobs

SHOWN = 1e-3  # by how much the halves of a share's interval may differ and still be shown as one: half a digit each


@dataclass(frozen=True)
class StudyJob:
    """A job of a study.

    Attributes:
        on_disk: the job as its folder shows it.
        sweep: the name of the sweep it was found in.
        axis: its columns; empty if not known.
        cell: the key of its cell; None if not known.
    """

    on_disk: JobOnDisk
    sweep: str
    axis: Mapping[str, Any]
    cell: str | None

    @property
    def seed(self) -> int | None:
        """The job's seed."""
        seed = self.axis.get("seed")
        return seed if isinstance(seed, int) else None

    def figure(self, metric: str) -> float | None:
        """A metric or cost by its name; None if the job does not have it, or it is not a finite number."""
        result = self.on_disk.result or {}
        for part in ("metrics", "cost"):
            value = (result.get(part) or {}).get(metric)
            if isinstance(value, int | float) and math.isfinite(value):
                return float(value)
        return None

    def interval(self, metric: str) -> Interval | None:
        """A metric's own 95 % interval, which covers the test images alone; None if it has no finite one."""
        intervals = (self.on_disk.result or {}).get("intervals")
        found = intervals.get(metric) if isinstance(intervals, dict) else None
        if not isinstance(found, list) or len(found) != 2 or self.figure(metric) is None:
            return None
        return (found[0], found[1]) if all(isinstance(e, int | float) and math.isfinite(e) for e in found) else None

    def point(self, metric: str, value: float | None = None) -> SeedFigure | None:
        """A metric, or another ``value`` on the same test images, as the figure of one seed for averaging."""
        figure = self.figure(metric)
        images = None if figure is None else count_images(figure, self.interval(metric))
        value = figure if value is None else value
        return None if value is None else SeedFigure(value, images, self._test(metric))

    def _test(self, metric: str) -> str | None:
        """A digest of the images that a metric is a share of; None if not recorded, as for downstream sets."""
        inputs = (self.on_disk.result or {}).get("inputs")
        if self.axis.get("task") == "embed" or metric.startswith("downstream/") or not isinstance(inputs, dict):
            return None
        found = inputs.get("test images")
        return found if isinstance(found, str) else None

    @property
    def varies(self) -> frozenset[str] | None:
        """The parts of the job, as ``data``, whose own seed is the job's; None if not recorded."""
        settings = (self.on_disk.result or {}).get("settings")
        if not isinstance(settings, dict) or not settings:
            return None
        return frozenset(name for name in ("data", "query") if settings.get(f"{name}.seed") == ANY_SEED)


@dataclass(frozen=True)
class Figure:
    """A figure of a cell.

    Attributes:
        mean: the mean over seeds.
        interval: the 95 % interval of the mean, see `fmsteal.report.read.interval.interval_over`; None for fewer than
            three seeds, and if all seeds have the same figure, unless it is a share.
        n: how many seeds have it.
        of: how many seeds were asked for.
        points: the figure of each seed.
        covers: what the interval covers: ``seeds``, ``test images``, ``seeds and test images``; "" without one.
    """

    mean: float
    interval: Interval | None
    n: int
    of: int
    points: tuple[float, ...] = ()
    covers: str = ""

    @classmethod
    def over(cls, points: Sequence[SeedFigure], of: int, bounds: Bounds) -> Figure:
        """Average the figures of one seed or more, out of ``of`` seeds that were asked for."""
        values = tuple(point.value for point in points)
        interval, covers = interval_over(points, bounds)
        return cls(math.fsum(values) / len(values), interval, len(values), of, values, covers)

    @property
    def half(self) -> float | None:
        """Half the interval's width: mean +- half; None without an interval, or if the mean is not in its middle.

        For a share it is enough to be in the middle to three decimals.
        """
        return half_of(self.mean, self.interval, SHOWN if IMAGES in self.covers else 0.0)

    @property
    def whole(self) -> bool:
        """Whether it includes every seed that was asked for."""
        return self.n == self.of


@dataclass(frozen=True)
class Cell:
    """Jobs that differ in the seed alone.

    Attributes:
        key: the cell's key.
        values: its values on the study's columns.
        jobs: its jobs in any state, by seed.
    """

    key: str
    values: Mapping[str, str]
    jobs: Sequence[StudyJob]

    @property
    def done(self) -> list[StudyJob]:
        """The finished jobs."""
        return [job for job in self.jobs if job.on_disk.state == DONE]

    @property
    def queries(self) -> int | None:
        """The budget."""
        for job in self.jobs:
            budget = (job.on_disk.result or {}).get("budget", job.axis.get("queries"))
            if isinstance(budget, int):
                return budget
        return None

    def by_seed(self, metric: str) -> dict[int | None, float]:
        """The metric of each seed that has it."""
        found = {job.seed: job.figure(metric) for job in self.jobs}
        return {seed: value for seed, value in found.items() if value is not None}

    def figure(self, metric: str) -> Figure | None:
        """The metric's mean over seeds; None if no job has it."""
        points = {job.seed: point for job in self.jobs if (point := job.point(metric))}
        return Figure.over(list(points.values()), len(self.jobs), self.bounds(metric)) if points else None

    def bounds(self, metric: str) -> Bounds:
        """The bounds of a metric; none if figures lie outside them, as with an accuracy in per cent."""
        values = self.by_seed(metric).values()
        low, high = found = bounds(metric, (job.on_disk.result for job in self.done if job.on_disk.result))
        inside = all((low is None or v >= low) and (high is None or v <= high) for v in values)
        return found if inside else (None, None)


@dataclass(frozen=True)
class Study:
    """The cells of one or several sweeps.

    Attributes:
        folders: the sweeps' folders.
        jobs: all known jobs, each once.
        columns: the axes that distinguish cells, and other settings without which two cells would look alike.
        cells: all cells, ordered by their values, queries ascending.
        unplaced: jobs whose cell is not known.
        repeated: keys of jobs that were found in more than one sweep; the first with a result counts.
    """

    folders: Sequence[Path]
    jobs: Sequence[StudyJob]
    columns: Sequence[str]
    cells: Sequence[Cell]
    unplaced: Sequence[StudyJob] = ()
    repeated: Sequence[str] = ()

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Study:
        """Read the folders of sweeps.

        Raises:
            StoreError: a folder is not a sweep's, or was written by a newer version.
        """
        found: dict[tuple[str, str], StudyJob] = {}
        repeated: list[str] = []
        for folder in folders:
            for job in _jobs(folder):
                same = (job.on_disk.stage or "thief", job.on_disk.key)
                if same in found:
                    repeated.append(job.on_disk.key)
                if same not in found or (found[same].on_disk.state != DONE and job.on_disk.state == DONE):
                    found[same] = job
        return cls._made(folders, list(found.values()), repeated)

    @classmethod
    def of_results(cls, results: Sequence[Result], folder: Path = Path()) -> Study:
        """A study of finished jobs alone, from results of a sweep's folder that have already been read."""
        jobs = SweepFolder(folder).job
        entries = [JobOnDisk(r["job_key"], jobs(r["job_key"]).path, DONE, axis=r["axis"], result=r) for r in results]
        return cls._made([], [_job(entry, "") for entry in entries], [])

    @classmethod
    def _made(cls, folders: Sequence[Path], jobs: Sequence[StudyJob], repeated: Sequence[str]) -> Study:
        placed, unplaced = [j for j in jobs if j.cell], [j for j in jobs if not j.cell and j.on_disk.stage != "victim"]
        columns, cells = _cells(placed)
        return cls(list(folders), jobs, columns, cells, unplaced, sorted(set(repeated)))

    @property
    def done(self) -> list[StudyJob]:
        """The finished jobs."""
        return [job for job in self.jobs if job.on_disk.state == DONE]

    @property
    def left(self) -> list[StudyJob]:
        """The jobs without a result: failed, cut off, under way, not begun, unreadable."""
        return [job for job in self.jobs if job.on_disk.state != DONE]

    @cached_property
    def same(self) -> dict[str, str]:
        """The axes that are the same in all cells."""
        axes = [job.axis for cell in self.cells for job in cell.jobs]
        names = [name for name in AXES if name not in self.columns and any(name in axis for axis in axes)]
        return {name: next(str(axis[name]) for axis in axes if name in axis) for name in names}

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all figures that any job has, the headline first."""
        names = {
            n for job in self.done for part in ("metrics", "cost") for n in (job.on_disk.result or {}).get(part) or {}
        }
        return sorted(names, key=lambda name: (name != HEADLINE, name))

    @cached_property
    def about(self) -> dict[str, About]:
        """The labels and directions of all figures that any job has, by name."""
        return describe(job.on_disk.result for job in self.done if job.on_disk.result is not None)

    def label(self, metric: str) -> str:
        """A metric's name in axes and headings."""
        return (self.about.get(metric) or guess(metric)).label

    def direction(self, metric: str) -> bool | None:
        """Whether a higher value of a metric means a better theft; None if neither direction does, or it is unknown."""
        return (self.about.get(metric) or guess(metric)).higher_is_better

    def values(self, column: str) -> list[str]:
        """A column's values, in the order of the cells; budgets by ascending queries."""
        found = list(dict.fromkeys(cell.values[column] for cell in self.cells))
        if column in ("budget", "queries"):
            size = {cell.values[column]: cell.queries or 0 for cell in self.cells}
            found.sort(key=lambda value: (size[value], value))
        return found

    def groups(self, but: Sequence[str]) -> dict[tuple[str, ...], list[Cell]]:
        """The cells grouped by their values on all columns except ``but``."""
        rest = [name for name in self.columns if name not in but]
        found: dict[tuple[str, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(tuple(cell.values[name] for name in rest), []).append(cell)
        return found

    def require_column(self, name: str) -> str:
        """Return a column's name, or refuse it.

        Raises:
            FmstealError: there is no such column, or it is the same in all cells.
        """
        if name in self.columns:
            return name
        there = f"What varies: {', '.join(self.columns)}." if self.columns else "Nothing varies but the seed."
        what = f"{name} is {self.same[name]} in all cells" if name in self.same else f"There is no axis {name}"
        raise FmstealError(f"{what}. {there}")


def half_of(value: float, interval: Interval | None, tolerance: float = 0.0) -> float | None:
    """Half the width of an interval; None without an interval, or if the value is not in its middle."""
    if interval is None:
        return None
    low, high = value - interval[0], interval[1] - value
    return (low + high) / 2 if math.isclose(low, high, rel_tol=1e-6, abs_tol=max(tolerance, 1e-12)) else None


def pair_figures(one: Cell, other: Cell, metric: str = HEADLINE) -> list[tuple[float, float]]:
    """The figures of both cells for each seed that both have."""
    mine, theirs = one.by_seed(metric), other.by_seed(metric)
    return [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]


def _jobs(folder: Path) -> list[StudyJob]:
    require_jobs(folder)
    entries = list_planned(folder)
    return [_job(entry, folder.absolute().name) for entry in (list_begun(folder) if entries is None else entries)]


def _job(entry: JobOnDisk, sweep: str) -> StudyJob:
    axis, settings = axis_of(entry), (entry.result or {}).get("settings")
    cell = cell_key(axis, settings) if axis and isinstance(settings, dict) else entry.cell
    return StudyJob(entry, sweep, axis, cell if entry.stage != "victim" else None)


def _cells(jobs: Sequence[StudyJob]) -> tuple[list[str], list[Cell]]:
    groups: dict[str, list[StudyJob]] = {}
    for job in jobs:
        groups.setdefault(str(job.cell), []).append(job)
    facts = {key: _facts(members) for key, members in groups.items()}
    columns = _telling_apart(list(facts.values()))
    cells = [
        Cell(key, _values(facts[key], columns, members), sorted(members, key=lambda j: j.seed or 0))
        for key, members in groups.items()
    ]
    rest = [c for c in columns if c not in ("budget", "queries")]
    return columns, sorted(cells, key=lambda cell: ([cell.values[c] for c in rest], cell.queries or 0))


def _telling_apart(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The axes that vary, and other settings until no two cells look alike."""

    def kinds(names: Sequence[str]) -> int:
        return len({tuple(str(f.get(n)) for n in names) for f in facts})

    columns = [name for name in AXES if kinds([name]) > 1]
    others = {name for fact in facts for name in fact} - set(AXES) - {"seed"}
    apart = kinds(columns)
    for name in sorted(others, key=lambda n: ("." in n, n)):
        if apart == len(facts):
            break
        if (more := kinds([*columns, name])) > apart:
            columns.append(name)
            apart = more
    return columns


def _values(facts: Mapping[str, Any], columns: Sequence[str], jobs: Sequence[StudyJob]) -> dict[str, str]:
    """A cell's values; settings that only a result records are "unknown" without one."""
    told = any(job.on_disk.result for job in jobs)
    return {c: str(facts.get(c, "none" if told or "." not in c else "unknown")) for c in columns}


def _facts(jobs: Sequence[StudyJob]) -> dict[str, Any]:
    """All that is known of a cell: its axes and settings, or the overrides of jobs without a result."""
    facts: dict[str, Any] = {}
    for job in jobs:
        words = (word.lstrip("+").partition("=") for word in job.on_disk.overrides)
        given = {key: value for key, _, value in words if "." in key}
        known = (job.on_disk.result or {}).get("settings", {})
        facts |= given | {key: value for key, value in known.items() if not (key in given and is_digest(value))}
    seeds = {key for key, value in facts.items() if key.endswith(".seed") and value == ANY_SEED}
    return facts | dict.fromkeys(seeds, "the job's") | dict(jobs[0].axis)
