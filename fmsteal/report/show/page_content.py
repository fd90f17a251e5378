"""The content of the page: columns and rows of its tables, links, notes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from fmsteal.base.store import is_there
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import DONE, FAILED, KILLED, MISSING, RUNNING, STATES, UNREADABLE, read_plan
from fmsteal.report.read import majority, status
from fmsteal.report.read.headlines import HEADLINES
from fmsteal.report.read.matrix import Matrix, choose_pair, make_matrices
from fmsteal.report.read.provenance import Fact, common_settings, find_times, list_facts, sum_costs
from fmsteal.report.read.study import Cell, Study, StudyJob
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.wording import (
    SAID,
    describe_cover,
    describe_coverage,
    describe_without_interval,
    format_number,
)

COSTS = {"cost/queries": "queries", "cost/usd": "USD", "cost/seconds": "seconds"}
LINKS = 12_000  # figures of jobs above which only the headline figures are links, to keep the file small
ROOM = 3  # axes above which some costs are hidden at first
VERSIONS = {
    "commit": "states of the code",
    "fmsteal": "versions of fmsteal",
    "torch": "versions of torch",
    "gpus": "kinds of GPUs",
}
URGENT = (FAILED, UNREADABLE, KILLED, RUNNING, MISSING)


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        metric: the figure's name.
        heading: the column's heading.
        shown: whether it is shown at first; the reader can show others.
        linked: whether each job's figure is a link to its folder.
        higher_is_better: whether a higher value means a better theft; None if neither direction does.
    """

    metric: str
    heading: str
    shown: bool
    linked: bool
    higher_is_better: bool | None


@dataclass(frozen=True)
class Choice:
    """A column that the reader may hide: its place from the right, name, heading, and if it is shown at first."""

    place: int
    name: str
    said: str
    shown: bool


@dataclass(frozen=True)
class PageContent:
    """The content of a study's page in ``folder``."""

    study: Study
    layout: Layout
    folder: Path

    @cached_property
    def title(self) -> str:
        """The names of the sweeps."""
        return ", ".join(dict.fromkeys(folder.absolute().name for folder in self.study.folders))

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that occurs."""
        found = Counter(job.on_disk.state for job in self.study.jobs)
        return {state: found[state] for state in STATES if found[state]}

    @cached_property
    def axes(self) -> list[str]:
        """The columns that distinguish cells."""
        return list(self.study.columns)

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of figures: the metric of the layout, headline figures, all others, costs."""
        there, main = self.study.metrics, self.layout.metric
        heads = [main, *(name for name in HEADLINES if name in there and name != main)]
        costs = [name for name in COSTS if name in there and name not in heads]
        others = [name for name in there if name not in heads and name not in costs]
        aside = (*others, *(("cost/usd", "cost/seconds") if len(self.axes) > ROOM else ()))
        few = len(self.study.done) * len(there) <= LINKS
        return [
            Column(
                name,
                self._heading(name),
                name not in aside,
                few or name in heads,
                self.study.direction(name),
            )
            for name in (*heads, *others, *costs)
        ]

    def _heading(self, metric: str) -> str:
        if metric == "cost/queries" and "queries" in self.axes:
            return "queries asked"
        return COSTS.get(metric) or self.study.label(metric)

    @property
    def heading(self) -> str:
        """The heading of the layout's metric."""
        return self.columns[0].heading

    @cached_property
    def choices(self) -> list[Choice]:
        """The columns that can be hidden: those of figures, and the drawn column after the first of them."""
        first, *others = [(column.metric, column.heading, column.shown) for column in self.columns]
        all_of_them = [first, ("drawn", f"{first[1]}, drawn", True), *others]
        return [Choice(len(all_of_them) + 1 - n, *choice) for n, choice in enumerate(all_of_them)]

    @cached_property
    def ids(self) -> dict[str, str]:
        """The HTML ids of the cells, by key."""
        return {cell.key: f"c{n}" for n, cell in enumerate(self.study.cells, 1)}

    @cached_property
    def several_seeds(self) -> bool:
        """Whether any cell has several seeds with the metric."""
        return any(len(cell.by_seed(self.layout.metric)) > 1 for cell in self.study.cells)

    @cached_property
    def covered(self) -> str:
        """What the intervals of the metric cover; "" if no cell has one."""
        return describe_cover(cell.figure(self.layout.metric) for cell in self.study.cells)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The ends of the metric's scale: 0 and 1 if all values lie between them."""
        values = [v for cell in self.study.cells for v in cell.by_seed(self.layout.metric).values()]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)

    def position(self, value: float) -> str:
        """Where a value is on that scale, between 0 and 1."""
        low, high = self.ends
        return f"{min(max((value - low) / (high - low), 0), 1):.3f}"

    def wilson(self, job: StudyJob) -> tuple[float, float] | None:
        """The interval of a job's metric over its test images, if it has one."""
        return job.interval(self.layout.metric)

    def ranks(self, axis: str) -> dict[str, int]:
        """The order of an axis's values: numbers by size, budgets by their queries, names alphabetically."""
        values = self.study.values(axis)
        if axis not in ("budget", "queries"):
            values = sorted(values, key=_natural)
        return {value: place for place, value in enumerate(values)}

    def values_of(self, axis: str) -> str:
        """The first eight values of an axis, in a line."""
        return _some(list(self.ranks(axis)), 8)

    def states(self, cell: Cell) -> list[str]:
        """The states under which the state filter finds a cell."""
        found = sorted({job.on_disk.state for job in cell.jobs if job.on_disk.state != DONE}, key=STATES.index)
        return ["complete"] if not found else ["partial" if cell.done else "none", *found]

    @cached_property
    def state_choices(self) -> dict[str, str]:
        """The choices of the state filter that find a cell, in words."""
        there = {state for cell in self.study.cells for state in self.states(cell)}
        words = {"complete": "all seeds done", "partial": "some seeds done", "none": "no seed done"}
        words |= {state: f"any {said}" for state, said in SAID.items()}
        return {state: said for state, said in words.items() if state in there}

    @cached_property
    def pair(self) -> tuple[str, str] | None:
        """The axes of the matrices."""
        return choose_pair(self.study)

    @cached_property
    def matrices(self) -> list[Matrix]:
        """The study as tables of two axes."""
        return make_matrices(self.study, *self.pair) if self.pair else []

    @cached_property
    def extremes(self) -> tuple[float, float] | None:
        """The least and the greatest mean, between which matrices are shaded."""
        means = [f.mean for cell in self.study.cells if (f := cell.figure(self.layout.metric))]
        return (min(means), max(means)) if means else None

    def shade(self, mean: float) -> str:
        """How strongly a mean is shaded, from 0 to 1."""
        low, high = self.extremes or (mean, mean)
        return f"{(mean - low) / (high - low) if high > low else 0.5:.3f}"

    @cached_property
    def left(self) -> list[StudyJob]:
        """The jobs without a result, those that need attention first."""
        return sorted(self.study.left, key=lambda job: (URGENT.index(job.on_disk.state), job.sweep, job.on_disk.key))

    @property
    def begun(self) -> list[StudyJob]:
        """The jobs without a result that have begun."""
        return [job for job in self.left if job.on_disk.state != MISSING]

    @property
    def missing(self) -> list[StudyJob]:
        """The jobs that have not begun."""
        return [job for job in self.left if job.on_disk.state == MISSING]

    def errors(self, cell: Cell) -> list[str]:
        """Why jobs of a cell failed: a line each, three at most."""
        failed = [job for job in cell.jobs if job.on_disk.state in (FAILED, UNREADABLE)]
        lines = [f"{self.said(job.on_disk.state)}, seed {job.seed}: {self.error(job)}" for job in failed[:3]]
        return lines + ([f"and {len(failed) - 3} more"] if len(failed) > 3 else [])

    def error(self, job: StudyJob) -> str:
        """Why a job has no result, in one line."""
        return status.describe_error(job.on_disk)

    def stage(self, job: StudyJob) -> str:
        """Where a job was when it ended."""
        return status.describe_stage(job.on_disk)

    def said(self, state: str) -> str:
        """A state in words."""
        return SAID.get(state, state)

    def link(self, path: Path) -> str:
        """The link from the page to a file or folder, as a URL."""
        try:
            relative = os.path.relpath(path.absolute(), self.folder.absolute())
        except ValueError:  # on another drive
            return path.absolute().as_uri()
        return quote(os.fsencode(Path(relative).as_posix())) + ("/" if path.is_dir() else "")

    def folder_of(self, job: StudyJob) -> str:
        """The link to a job's folder; "" if it has none."""
        return self.link(job.on_disk.folder) if job.on_disk.state != MISSING else ""

    def log(self, job: StudyJob) -> Path | None:
        """A job's log; None if it has none."""
        log = JobFolder(job.on_disk.folder).log
        return log if is_there(log) else None

    def short(self, job: StudyJob) -> str:
        """The end of a job's key, which is unique."""
        return job.on_disk.key.rpartition("-")[2]

    @cached_property
    def facts(self) -> list[Fact]:
        """What the finished jobs were computed with."""
        return list_facts(self.study.done)

    @property
    def mixed(self) -> list[Fact]:
        """The facts in which they differ."""
        return [fact for fact in self.facts if fact.mixed]

    @cached_property
    def totals(self) -> dict[str, float]:
        """The total costs of the finished jobs."""
        return sum_costs(self.study.done)

    @cached_property
    def span(self) -> list[tuple[str, object]]:
        """When the study was begun, and when its last result was written."""
        begun, written = find_times(self.study)
        return [(name, at) for name, at in (("begun", begun), ("last result", written)) if at]

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings that are the same in all finished jobs."""
        return common_settings(self.study)

    @cached_property
    def seeds(self) -> list[int]:
        """All seeds that were asked for."""
        return sorted({job.seed for cell in self.study.cells for job in cell.jobs if job.seed is not None})

    @cached_property
    def commands(self) -> list[tuple[str, str]]:
        """The names of the sweeps whose command is recorded, each with its command."""
        known = [(folder.absolute().name, (read_plan(folder) or {}).get("command")) for folder in self.study.folders]
        return [(name, str(command)) for name, command in known if command]

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know before believing a figure."""
        study, notes = self.study, []
        cells, metric = study.cells, self.layout.metric
        if not study.done:
            notes.append("No job is finished: there are no figures yet.")
        notes += _incomplete(cells, metric)
        figures = [figure for cell in cells if (figure := cell.figure(metric))]
        least = [value for job in study.done if (value := majority.scores(job.on_disk.folder).get(metric)) is not None]
        if least:
            ends = " to ".join(dict.fromkeys(format_number(value, metric) for value in (min(least), max(least))))
            notes.append(f"Of {study.label(metric)} the {majority.NAME}, has {ends}.")
        notes += [*describe_coverage(figures, cells), *describe_without_interval(figures)]
        if unmeasured := [job for job in study.done if job.cell and job.figure(metric) is None]:
            notes.append(f"{_jobs(unmeasured)} finished without {metric}.")
        notes += _apart(study)
        notes += [f"Results come from {len(f.values)} {VERSIONS[f.name]}." for f in self.mixed if f.name in VERSIONS]
        return notes


def _incomplete(cells: Sequence[Cell], metric: str) -> list[str]:
    """How many cells lack the seeds that a mean with an interval needs."""
    counts = {
        "some seeds are not done; a mean is over those that are": sum(0 < len(c.done) < len(c.jobs) for c in cells),
        "no seed is done": sum(not cell.done for cell in cells),
        "a single seed, which has no interval over seeds": sum(len(cell.by_seed(metric)) == 1 for cell in cells),
    }
    return [f"{count} of {len(cells)} cells: {what}." for what, count in counts.items() if count]


def _apart(study: Study) -> list[str]:
    """Notes on jobs that are in no cell, or were found more than once."""
    notes = []
    if study.repeated:
        notes.append(
            f"{len(study.repeated)} jobs were found in more than one sweep and count once: {_some(study.repeated)}."
        )
    if study.unplaced:
        notes.append(
            f"{_jobs(study.unplaced)} in no cell, since nothing tells their axes: "
            f"{_some([job.on_disk.key for job in study.unplaced])}."
        )
    return notes


def _jobs(jobs: Sequence[StudyJob]) -> str:
    return "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _natural(value: str) -> tuple[bool, float, str]:
    try:
        return (False, float(value), value)
    except ValueError:
        return (True, 0.0, value)
