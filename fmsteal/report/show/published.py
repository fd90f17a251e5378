"""``fmsteal report --published``: a study beside a paper's figures, cell by cell. Imports no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.base import paths
from fmsteal.base.errors import FmstealError
from fmsteal.identity.keys import AXES
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Cell, Figure, Study
from fmsteal.report.show.plain import Plain
from fmsteal.report.show.wording import (
    describe_coverage,
    describe_missing,
    describe_without_interval,
    format_interval,
    format_number,
)

FOLDER = "published"
MATCHED = ("data", "victim", "victim_adaptation", "thief", "queries")  # every file has these columns
FURTHER = (*(a for a in AXES if a not in (*MATCHED, "budget")), "thief_adaptation")  # and may have these
BESIDE = ("ours", "published", "difference", "inside our interval")


@dataclass(frozen=True)
class Published:
    """A figure that a paper printed.

    Attributes:
        axis: its experiment, by the names of a sweep's columns; an absent column matches any value.
        agreement: the figure, as a share.
        table: where it is printed.
    """

    axis: Mapping[str, str]
    agreement: float
    table: str = ""

    def is_of(self, cell: Cell) -> bool:
        """Whether a cell is the same experiment, judging by the columns."""
        ours = cell.jobs[0].axis
        return all(str(ours.get(name)) == value for name, value in self.axis.items())


@dataclass(frozen=True)
class PublishedRow:
    """A cell beside a published figure: the cell's values, our figure (or why it is absent), and theirs."""

    values: Sequence[str]
    ours: Figure | None
    absent: str
    published: float

    @property
    def difference(self) -> float | None:
        """Our figure minus theirs."""
        return None if self.ours is None else self.ours.mean - self.published

    @property
    def inside(self) -> bool | None:
        """Whether their figure lies in our 95 % interval; None if there is no interval."""
        interval = None if self.ours is None else self.ours.interval
        return None if interval is None else interval[0] <= self.published <= interval[1]

    @property
    def texts(self) -> list[str]:
        """The row as texts."""
        theirs = format_number(self.published, HEADLINE)
        if self.ours is None or self.difference is None:
            return [*self.values, self.absent, theirs, "", ""]
        half = "" if self.ours.half is None else f" ± {format_number(self.ours.half, HEADLINE)}"
        said = format_interval(self.ours, HEADLINE) if self.inside is None else "yes" if self.inside else "no"
        return [
            *self.values,
            f"{format_number(self.ours.mean, HEADLINE)}{half}",
            theirs,
            f"{self.difference:+.3f}",
            said,
        ]


@dataclass(frozen=True)
class PublishedComparison:
    """A study beside a file of published figures.

    Attributes:
        name: the file's name.
        keys: the columns that distinguish rows.
        rows: the cells with a published figure, in the study's order.
        unmatched: our cells without a figure in the file, in words.
        others: how many figures of the file match none of our cells.
    """

    name: str
    keys: Sequence[str]
    rows: Sequence[PublishedRow]
    unmatched: Sequence[str]
    others: int

    @classmethod
    def of(cls, study: Study, name: str) -> PublishedComparison:
        """Put a study beside the figures of a file, see `find`.

        Raises:
            FmstealError: there is no such file, or it does not hold published figures.
        """
        figures = read(find(name))
        keys = [*MATCHED, *(c for c in study.columns if c not in (*MATCHED, "budget"))]
        rows: list[PublishedRow] = []
        unmatched: list[str] = []
        for cell in study.cells:
            axis = cell.jobs[0].axis
            values = [str(axis.get(key, cell.values.get(key, ""))) for key in keys]
            theirs = dict.fromkeys(p.agreement for p in figures if p.is_of(cell))  # tables repeat each other
            ours = cell.figure(HEADLINE)
            rows += [PublishedRow(values, ours, "" if ours else describe_missing(cell), value) for value in theirs]
            if not theirs:
                unmatched.append(", ".join(values))
        others = sum(not any(p.is_of(cell) for cell in study.cells) for p in figures)
        return cls(Path(name).stem, keys, rows, unmatched, others)

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        told = [row.inside for row in self.rows if row.inside is not None]
        if not self.rows:
            said = f"{', '.join(MATCHED)} ({'; '.join(self.unmatched)})"
            return [f"No cell of ours has a figure in {self.name}: its {said} would have to agree."]
        notes = [
            f"Agreement, ours (mean over seeds ± half of its 95 % interval) beside {self.name}, as published; "
            "the difference is ours less theirs."
        ]
        notes += describe_coverage(row.ours for row in self.rows)
        if told:
            notes.append(f"Inside our interval: {sum(told)} of {len(told)}.")
        figures = [row.ours for row in self.rows if row.ours is not None]
        if any(figure.n == 1 for figure in figures):
            notes.append("A single seed has no interval.")
        notes += describe_without_interval(figures)
        if self.unmatched:
            notes.append(
                f"Without a published figure: {len(self.unmatched)} of our cells ({'; '.join(self.unmatched)})."
            )
        if self.others:
            notes.append(f"Published, but in no cell of ours: {self.others} figures.")
        return notes

    def table(self) -> Plain:
        """The rows and notes as they are shown and written."""
        rows = [row.texts for row in self.rows]
        return Plain(f"published-{self.name}", f"beside {self.name}", self.keys, BESIDE, rows, self.notes)


def find(name: str) -> Path:
    """A file of published figures: one of ours by name, or any file by path.

    Raises:
        FmstealError: there is no such file; the message lists ours.
    """
    ours = {file.stem: file for file in sorted((paths.folder("sweeps") / FOLDER).glob("*.csv"))}
    if name in ours:
        return ours[name]
    if Path(name).is_file():
        return Path(name)
    raise FmstealError(
        f"--published: there is no {name}. There are: {', '.join(ours)}; or give the path of a CSV file with the "
        f"columns {', '.join((*MATCHED, 'agreement'))}."
    )


def read(file: Path) -> list[Published]:
    """The figures of a file, which gives agreement in per cent.

    Raises:
        FmstealError: the file cannot be read, a column is missing, or a figure is not a percentage.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FmstealError(f"--published: {file} cannot be read as CSV ({error}).") from error
    columns = list(lines[0]) if lines else []
    if absent := [name for name in (*MATCHED, "agreement") if name not in columns]:
        raise FmstealError(f"--published: {file} has no column {', '.join(absent)}, or no line below its head.")
    found = [_figure(file, number, line) for number, line in enumerate(lines, start=2)]
    if max(figure.agreement for figure in found) <= 0.01:
        raise FmstealError(f"--published: agreement in {file} seems to be in shares. Give it in per cent: 94.28.")
    return found


def _figure(file: Path, number: int, line: Mapping[str, str | None]) -> Published:
    try:
        value = float(line["agreement"] or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise FmstealError(
            f"--published: line {number} of {file} has the agreement {line['agreement']!r}, which is no percentage."
        )
    named = {name: (line.get(name) or "").strip() for name in (*MATCHED, *FURTHER)}
    return Published({name: text for name, text in named.items() if text}, value / 100, line.get("table") or "")
