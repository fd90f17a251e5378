"""What one or several sweeps found, cell by cell: means over seeds with intervals, and what is not there.

A cell is what jobs share that differ in the seed alone. A job of the plan without a result stays in its cell, so that
no mean hides it. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fmsteal.errors import FmstealError
from fmsteal.report.headlines import HEADLINE
from fmsteal.report.interval import student_interval
from fmsteal.report.tidy import axis_of, require_jobs
from fmsteal.results import DONE, Entry, Result, begun, planned
from fmsteal.sweep.identity import ANY_SEED, AXES, cell_key


@dataclass(frozen=True)
class Job:
    """A job of a study.

    Attributes:
        entry: what its folder shows.
        sweep: name of the sweep it was found in.
        axis: its columns; empty where nothing tells.
        cell: what it shares with jobs that differ in the seed alone; None where nothing tells.
    """

    entry: Entry
    sweep: str
    axis: Mapping[str, Any]
    cell: str | None

    @property
    def seed(self) -> int | None:
        """The job's seed."""
        seed = self.axis.get("seed")
        return seed if isinstance(seed, int) else None

    def figure(self, metric: str) -> float | None:
        """A metric or cost by its name; None where the job has none, or no number that is finite."""
        result = self.entry.result or {}
        for part in ("metrics", "cost"):
            value = (result.get(part) or {}).get(metric)
            if isinstance(value, int | float) and math.isfinite(value):
                return float(value)
        return None


@dataclass(frozen=True)
class Figure:
    """A figure of a cell.

    Attributes:
        mean: over its seeds.
        interval: Student's 95 % interval of the mean; None for a single seed.
        n: seeds that have it.
        of: seeds that were asked for.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int
    of: int

    @property
    def half(self) -> float | None:
        """Half the interval's width: mean +- half."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2

    @property
    def whole(self) -> bool:
        """Whether every seed that was asked for is in it."""
        return self.n == self.of


@dataclass(frozen=True)
class Cell:
    """Jobs that differ in the seed alone.

    Attributes:
        key: names the cell.
        values: on the study's columns.
        jobs: by seed, of whatever state.
    """

    key: str
    values: Mapping[str, str]
    jobs: Sequence[Job]

    @property
    def done(self) -> list[Job]:
        """The finished ones."""
        return [job for job in self.jobs if job.entry.state == DONE]

    @property
    def queries(self) -> int | None:
        """The budget."""
        for job in self.jobs:
            budget = (job.entry.result or {}).get("budget", job.axis.get("queries"))
            if isinstance(budget, int):
                return budget
        return None

    def by_seed(self, metric: str) -> dict[int | None, float]:
        """The metric of each seed that has it."""
        found = {job.seed: job.figure(metric) for job in self.jobs}
        return {seed: value for seed, value in found.items() if value is not None}

    def figure(self, metric: str) -> Figure | None:
        """The metric's mean over seeds; None where no job has it."""
        values = list(self.by_seed(metric).values())
        if not values:
            return None
        return Figure(math.fsum(values) / len(values), student_interval(values), len(values), len(self.jobs))


@dataclass(frozen=True)
class Study:
    """The cells of one or several sweeps.

    Attributes:
        folders: of the sweeps.
        jobs: all that are known, each once.
        columns: the axes that tell the cells apart, and those other settings without which two would look alike.
        cells: all cells, in the order of their values, queries ascending.
        unplaced: jobs of which nothing tells the cell.
        repeated: keys of jobs that were found in more than one sweep; the first one with a result counts.
    """

    folders: Sequence[Path]
    jobs: Sequence[Job]
    columns: Sequence[str]
    cells: Sequence[Cell]
    unplaced: Sequence[Job] = ()
    repeated: Sequence[str] = ()

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Study:
        """Read the folders of sweeps.

        Raises:
            StoreError: one is no sweep's, or was written by a newer version.
        """
        found: dict[tuple[str, str], Job] = {}
        repeated: list[str] = []
        for folder in folders:
            for job in _jobs(folder):
                same = (job.entry.stage or "thief", job.entry.key)
                if same in found:
                    repeated.append(job.entry.key)
                if same not in found or (found[same].entry.state != DONE and job.entry.state == DONE):
                    found[same] = job
        return cls._made(folders, list(found.values()), repeated)

    @classmethod
    def of_results(cls, results: Sequence[Result]) -> Study:
        """The same of results that were read already: the finished jobs alone."""
        entries = [Entry(r["job_key"], Path(r["job_key"]), DONE, axis=r["axis"], result=r) for r in results]
        return cls._made([], [_job(entry, "") for entry in entries], [])

    @classmethod
    def _made(cls, folders: Sequence[Path], jobs: Sequence[Job], repeated: Sequence[str]) -> Study:
        placed, unplaced = [j for j in jobs if j.cell], [j for j in jobs if not j.cell and j.entry.stage != "victim"]
        columns, cells = _cells(placed)
        return cls(list(folders), jobs, columns, cells, unplaced, sorted(set(repeated)))

    @property
    def done(self) -> list[Job]:
        """The finished jobs."""
        return [job for job in self.jobs if job.entry.state == DONE]

    @property
    def left(self) -> list[Job]:
        """The jobs without a result: failed, cut off, under way, not begun, unreadable."""
        return [job for job in self.jobs if job.entry.state != DONE]

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
            n for job in self.done for part in ("metrics", "cost") for n in (job.entry.result or {}).get(part) or {}
        }
        return sorted(names, key=lambda name: (name != HEADLINE, name))

    def values(self, column: str) -> list[str]:
        """What a column holds, in the order of the cells; numbers of queries ascend."""
        found = list(dict.fromkeys(cell.values[column] for cell in self.cells))
        if column in ("budget", "queries"):
            size = {cell.values[column]: cell.queries or 0 for cell in self.cells}
            found.sort(key=lambda value: (size[value], value))
        return found

    def groups(self, but: Sequence[str]) -> dict[tuple[str, ...], list[Cell]]:
        """The cells that are alike in all columns except ``but``, by their values on those columns."""
        rest = [name for name in self.columns if name not in but]
        found: dict[tuple[str, ...], list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(tuple(cell.values[name] for name in rest), []).append(cell)
        return found

    def require_column(self, name: str) -> str:
        """A column by its name.

        Raises:
            FmstealError: there is no such column, or it is the same in all cells.
        """
        if name in self.columns:
            return name
        there = f"What varies: {', '.join(self.columns)}." if self.columns else "Nothing varies but the seed."
        what = f"{name} is {self.same[name]} in all cells" if name in self.same else f"There is no axis {name}"
        raise FmstealError(f"{what}. {there}")


def paired(one: Cell, other: Cell, metric: str = HEADLINE) -> list[tuple[float, float]]:
    """The figures of both cells for each seed that both have."""
    mine, theirs = one.by_seed(metric), other.by_seed(metric)
    return [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]


def _jobs(folder: Path) -> list[Job]:
    require_jobs(folder)
    entries = planned(folder)
    return [_job(entry, folder.absolute().name) for entry in (begun(folder) if entries is None else entries)]


def _job(entry: Entry, sweep: str) -> Job:
    axis, settings = axis_of(entry), (entry.result or {}).get("settings")
    cell = cell_key(axis, settings) if axis and isinstance(settings, dict) else entry.cell
    return Job(entry, sweep, axis, cell if entry.stage != "victim" else None)


def _cells(jobs: Sequence[Job]) -> tuple[list[str], list[Cell]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(str(job.cell), []).append(job)
    facts = {key: _facts(members) for key, members in groups.items()}

    def kinds(names: Sequence[str]) -> int:
        return len({tuple(str(f.get(n)) for n in names) for f in facts.values()})

    columns = [name for name in AXES if kinds([name]) > 1]
    others = {name for fact in facts.values() for name in fact} - set(AXES) - {"seed"}
    apart = kinds(columns)
    for name in sorted(others, key=lambda n: ("." in n, n)):
        if apart == len(groups):
            break
        if (more := kinds([*columns, name])) > apart:
            columns.append(name)
            apart = more
    cells = [
        Cell(key, _values(facts[key], columns, members), sorted(members, key=lambda j: j.seed or 0))
        for key, members in groups.items()
    ]
    rest = [c for c in columns if c not in ("budget", "queries")]
    return columns, sorted(cells, key=lambda cell: ([cell.values[c] for c in rest], cell.queries or 0))


def _values(facts: Mapping[str, Any], columns: Sequence[str], jobs: Sequence[Job]) -> dict[str, str]:
    """A cell's values; settings that only a result tells are unknown where there is none."""
    told = any(job.entry.result for job in jobs)
    return {c: str(facts.get(c, "none" if told or "." not in c else "unknown")) for c in columns}


def _facts(jobs: Sequence[Job]) -> dict[str, Any]:
    """All that is known of a cell: of a job without a result, what its overrides say in place of its settings."""
    facts: dict[str, Any] = {}
    for job in jobs:
        words = (word.lstrip("+").partition("=") for word in job.entry.overrides)
        facts |= {key: value for key, _, value in words if "." in key} | (job.entry.result or {}).get("settings", {})
    seeds = {key for key, value in facts.items() if key.endswith(".seed") and value == ANY_SEED}
    return facts | dict.fromkeys(seeds, "the job's") | dict(jobs[0].axis)
