"""A metric of a study as a table, also beside a baseline; `typeset` writes it. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.difference import Difference
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.interval import student_interval
from fmsteal.report.read.study import Cell, Figure, Study, pair_figures
from fmsteal.report.show import majority_row
from fmsteal.report.show.baseline import Baseline, find_differences, require_choice
from fmsteal.report.show.layout import Layout, Panel
from fmsteal.report.show.wording import describe_coverage, describe_missing, describe_without_interval

MOST_KEYS = 8  # columns that distinguish rows
OTHERS = "others"  # the column for all further axes


@dataclass(frozen=True)
class CellSummary:
    """A table's entry for a cell.

    Attributes:
        figure: the metric's mean and interval; None if no job has it.
        absent: what became of the jobs, if there is no figure; "" if the study has no such cell.
        difference: the difference from the baseline, if one was named and has a figure; None for the baseline itself.
        bold: whether it is the best of the cells it may be compared with, or cannot be distinguished from the best;
            beside a baseline, whether the difference is more than chance, given all comparisons of the table.
    """

    figure: Figure | None = None
    absent: str = ""
    difference: Difference | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A metric of all cells.

    Attributes:
        metric: the metric's name.
        label: the metric's label.
        keys: the columns that distinguish the rows.
        columns: numbers of queries, or the metric's label if they do not vary.
        rows: for each row, its values on ``keys`` and an entry for each column.
        usual: the most frequent values of the axes that have no column of their own, since there are too many.
        baseline: what the others are compared with, if anything.
        coverage: what the intervals cover, in words.
    """

    metric: str
    label: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[CellSummary]]]
    usual: Mapping[str, str] = field(default_factory=dict)
    baseline: Baseline | None = None
    coverage: Sequence[str] = ()

    @classmethod
    def of(cls, study: Study, layout: Layout, baseline: str | None = None) -> Table:
        """Lay the study out: a row for each combination of the axes, a column for each number of queries.

        With a baseline, a choice of the axis that is compared, each figure gets its difference from the baseline's.

        Raises:
            FmstealError: there is no such choice, or no cell can be compared with it.
        """
        if baseline is not None:
            require_choice(study, layout, baseline)
        column = _columns(study, layout)
        keys = _keys(study, layout, column)
        rows = _rows(study, layout, baseline, keys, column)
        across = _across(study, column)
        if least := _majority(study, layout.metric, keys, column):
            keys, rows = keys or [""], {key or ("",): row for key, row in rows.items()} | least
        heads, values, usual = _folded(keys, list(rows))
        laid_out = [
            (row, [rows[key].get(name, CellSummary()) for name in across])
            for row, key in zip(values, rows, strict=True)
        ]
        said = describe_coverage([entry.figure for _, row in laid_out for entry in row], study.cells)
        table = cls(layout.metric, study.label(layout.metric), heads, across, laid_out, usual, coverage=said)
        return table if baseline is None else table._beside(study, layout, baseline)

    def _beside(self, study: Study, layout: Layout, baseline: str) -> Table:
        beside = sum(entry.difference is not None for entry in self.entries)
        axis = str(layout.lines)
        others = [c for c in study.cells if c.values[axis] != baseline and c.figure(layout.metric)]
        if not beside:
            apart = ", ".join((*layout.pages, *layout.facets)) or "nothing else"
            raise FmstealError(
                f"No cell has {axis} {baseline} beside it: those of other choices differ in {apart} too, or "
                "have no figure."
            )
        return replace(
            self, baseline=Baseline(axis, baseline, layout.judged, len(others) - beside, study.direction(layout.metric))
        )

    @property
    def stem(self) -> str:
        """The name of its files without suffix: ``table``, the metric unless it is the headline, and the baseline."""
        parts = ["table", *([self.metric] if self.metric != HEADLINE else [])]
        parts += ["from", self.baseline.name] if self.baseline else []
        return re.sub(r"[^\w.@-]", "-", "-".join(parts))

    @property
    def entries(self) -> list[CellSummary]:
        """All entries."""
        return [entry for _, row in self.rows for entry in row]

    @property
    def notes(self) -> list[str]:
        """What a reader must know before comparing the figures."""
        figures = [entry.figure for entry in self.entries if entry.figure]
        torn, known = [f for f in figures if not f.whole], {f.n for f in figures}
        name = f"{self.label[:1].upper()}{self.label[1:]}"
        notes = [f"{name}, mean over seeds{' ± half of its 95 % interval, or both its ends' if self.coverage else ''}."]
        notes += self.coverage
        if len(known) == 1:
            notes.append(f"n = {known.pop()} in every cell.")
        elif known:
            notes.append("n, the number of seeds, stands in brackets.")
        if singles := [f for f in figures if f.n == 1]:
            which = "All cells" if len(singles) == len(figures) else f"{len(singles)} of {len(figures)} cells"
            notes.append(f"{which} have a single seed, and no interval.")
        notes += describe_without_interval(figures)
        if torn:
            notes.append(f"{len(torn)} of {len(figures)} cells lack seeds that were asked for (n of N).")
        return [*notes, *self._marks()]

    def _marks(self) -> list[str]:
        """What bold type, differences and the column of further axes mean."""
        notes: list[str] = []
        if self.baseline:
            found = [(entry.figure, entry.difference) for entry in self.entries if entry.figure and entry.difference]
            notes += self.baseline.notes(found)
        elif any(entry.bold for entry in self.entries):
            notes.append(
                "Bold: the best of a column among rows that differ in the last axis alone, and those whose difference "
                "from it, paired by seed, has a 95 % interval that holds zero."
            )
        if self.usual:
            said = ", ".join(f"{name}={value}" for name, value in self.usual.items())
            notes.append(f"{OTHERS.capitalize()} names what differs from {said}.")
        return notes


def _rows(
    study: Study, layout: Layout, baseline: str | None, keys: Sequence[str], column: Mapping[str, str]
) -> dict[tuple[str, ...], dict[str, CellSummary]]:
    """The entries of all cells, by the values of the rows' keys, then by column."""
    panels = [panel for page in layout.split(study) for panel in page.panels]
    from_it = None if baseline is None else find_differences(panels, baseline, layout.metric, column)
    rows: dict[tuple[str, ...], dict[str, CellSummary]] = {}
    for panel in panels:
        found = _entries(panel, study, layout, from_it, column)
        for cell in panel.cells:
            row = rows.setdefault(tuple(cell.values[key] for key in keys), {})
            row[column[cell.key]] = found[cell.key]
    return rows


def _keys(study: Study, layout: Layout, column: Mapping[str, str]) -> list[str]:
    """The axes that distinguish rows."""
    keys = [*layout.pages, *layout.facets, *([layout.lines] if layout.lines else [])]
    if len({(*(c.values[k] for k in keys), column[c.key]) for c in study.cells}) < len(study.cells):
        return [name for name in study.columns if name not in layout.x]  # named facets may leave cells alike
    return keys


def _across(study: Study, column: Mapping[str, str]) -> list[str]:
    """The columns, by ascending queries."""
    return list(dict.fromkeys(column[c.key] for c in sorted(study.cells, key=lambda c: c.queries or 0)))


def _entries(
    panel: Panel, study: Study, layout: Layout, from_it: Mapping[str, Difference] | None, column: Mapping[str, str]
) -> dict[str, CellSummary]:
    """The entries of a panel, by the keys of its cells, with their differences from any baseline."""
    better = study.direction(layout.metric) if layout.judged else None
    if from_it is None:
        from_it, bold = {}, _best(panel.cells, layout.metric, better, column)
    else:
        bold = {key for key, found in from_it.items() if found.holds and better is not None}
    entries = {}
    for cell in panel.cells:
        figure = cell.figure(layout.metric)
        absent = "" if figure else describe_missing(cell)
        entries[cell.key] = CellSummary(figure, absent, from_it.get(cell.key), cell.key in bold)
    return entries


def _columns(study: Study, layout: Layout) -> dict[str, str]:
    """The column of each cell, by the cell's key: its queries, and the budget's name if several have as many."""
    if not layout.x:
        return {cell.key: study.label(layout.metric) for cell in study.cells}
    named = {cell.key: " ".join(cell.values[name] for name in layout.x) for cell in study.cells}
    alike: dict[int | None, set[str]] = {}
    for cell in study.cells:
        alike.setdefault(cell.queries, set()).add(named[cell.key])

    def column(cell: Cell) -> str:
        if cell.queries is None:
            return named[cell.key]
        return f"{cell.queries:,} queries" + (f" ({named[cell.key]})" if len(alike[cell.queries]) > 1 else "")

    return {cell.key: column(cell) for cell in study.cells}


def _majority(
    study: Study, metric: str, keys: Sequence[str], column: Mapping[str, str]
) -> dict[tuple[str, ...], dict[str, CellSummary]]:
    """A row of the majority class for each victim, if it has the metric."""
    cells: dict[tuple[str, ...], dict[str, list[Cell]]] = {}
    for cell in study.cells:
        cells.setdefault(majority_row.find_row(keys, cell.values), {}).setdefault(column[cell.key], []).append(cell)
    found = {
        row: {
            name: CellSummary(figure)
            for name, some in each.items()
            if (figure := majority_row.average_figure(some, metric))
        }
        for row, each in cells.items()
    }
    return {row: entries for row, entries in found.items() if entries}


def _folded(keys: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """If there are too many columns, merge the last into one of unusual values; also return the usual values."""
    if len(keys) <= MOST_KEYS:
        return list(keys), [list(row) for row in rows], {}
    first, rest = MOST_KEYS - 1, range(MOST_KEYS - 1, len(keys))
    usual = {place: Counter(row[place] for row in rows).most_common(1)[0][0] for place in rest}
    unusual = [", ".join(f"{keys[p]}={row[p]}" for p in rest if row[p] not in ("", usual[p])) for row in rows]
    values = [[*row[:first], said] for row, said in zip(rows, unusual, strict=True)]
    return [*keys[:first], OTHERS], values, {keys[place]: value for place, value in usual.items()}


def _best(cells: Sequence[Cell], metric: str, higher_is_better: bool | None, column: Mapping[str, str]) -> set[str]:
    """In each column of a panel, the keys of the best cell and of those not distinguishable from it."""
    if higher_is_better is None:
        return set()
    found: set[str] = set()
    for name in {column[cell.key] for cell in cells}:
        alike = [cell for cell in cells if column[cell.key] == name and cell.figure(metric)]
        if len(alike) < 2:
            continue
        means = {cell.key: f.mean for cell in alike if (f := cell.figure(metric))}
        top = (max if higher_is_better else min)(alike, key=lambda cell: means[cell.key])
        found |= {cell.key for cell in alike if means[cell.key] == means[top.key] or _level(cell, top, metric)}
    return found


def _level(cell: Cell, top: Cell, metric: str) -> bool:
    """Whether the difference from the best, paired by seed, has an interval that contains zero."""
    interval = student_interval([a - b for a, b in pair_figures(cell, top, metric)])
    return interval is not None and interval[0] <= 0 <= interval[1]
