"""A metric of a study laid out as a table, also beside a baseline. How it is written: `typeset`. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fmsteal.errors import FmstealError
from fmsteal.report.difference import Difference
from fmsteal.report.layout import APART, Layout, Panel
from fmsteal.report.study import Cell, Figure, Study
from fmsteal.report.wording import label, least_is_best, missing

MOST_KEYS = 8  # columns that tell rows apart
OTHERS = "others"  # the column of all further axes


@dataclass(frozen=True)
class Entry:
    """What a table says of a cell.

    Attributes:
        figure: the metric's mean and interval; None where no job has it.
        absent: what became of the jobs, where there is no figure; "" where the study has no such cell.
        gain: over the baseline, where one was named and has a figure; None for the baseline itself.
        bold: whether it is the best of those that it may be compared with, or cannot be told from the best; beside a
            baseline, whether the gain's interval leaves zero out.
    """

    figure: Figure | None = None
    absent: str = ""
    gain: Difference | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A metric of all cells.

    Attributes:
        metric: its name.
        keys: the columns that tell the rows apart.
        columns: numbers of queries, or the metric where they do not vary.
        rows: of each row its values on ``keys``, and an entry for each column.
        usual: the most frequent values of axes that have no column of their own, since there are too many.
        baseline: what the others are compared with, as ``attack knockoff``; "" for none.
    """

    metric: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Entry]]]
    usual: Mapping[str, str] = field(default_factory=dict)
    baseline: str = ""

    @classmethod
    def of(cls, study: Study, layout: Layout, baseline: str | None = None) -> Table:
        """Lay the study out: a row for each combination of the axes, a column for each number of queries.

        Beside a baseline, a choice of the axis that is compared, each figure has its gain over it.

        Raises:
            FmstealError: there is no such choice.
        """
        choices = study.values(layout.lines) if layout.lines else []
        if baseline is not None and baseline not in choices:
            there = f"Of {layout.lines} there is: {', '.join(choices)}." if choices else "Nothing varies but the seed."
            raise FmstealError(f"There is no {baseline} to compare with. {there} Another axis is named by --by.")
        keys, column = (
            [*layout.pages, *layout.facets, *([layout.lines] if layout.lines else [])],
            _columns(study, layout),
        )
        if len({(*(c.values[k] for k in keys), column[c.key]) for c in study.cells}) < len(study.cells):
            keys = [name for name in study.columns if name not in layout.x]  # named facets may leave cells alike
        across = list(dict.fromkeys(column[c.key] for c in sorted(study.cells, key=lambda c: c.queries or 0)))
        found: dict[tuple[str, ...], dict[str, Entry]] = {}
        for page in layout.split(study):
            for panel in page.panels:
                gains = {} if baseline is None else _gains(panel, baseline, layout, column)
                bold = _best(panel.cells, layout, column) if baseline is None else {k for k in gains if gains[k].told}
                for cell in panel.cells:
                    row = found.setdefault(tuple(cell.values[key] for key in keys), {})
                    figure, gain = cell.figure(layout.metric), gains.get(cell.key)
                    row[column[cell.key]] = Entry(figure, "" if figure else missing(cell), gain, cell.key in bold)
        heads, values, usual = _folded(keys, list(found))
        rows = [
            (row, [found[key].get(name, Entry()) for name in across]) for row, key in zip(values, found, strict=True)
        ]
        return cls(layout.metric, heads, across, rows, usual, f"{layout.lines} {baseline}" if baseline else "")

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [entry for _, row in self.rows for entry in row]

    @property
    def notes(self) -> list[str]:
        """What a reader has to know before comparing the figures."""
        figures = [entry.figure for entry in self.entries if entry.figure]
        singles, torn = [f for f in figures if f.interval is None], [f for f in figures if not f.whole]
        known = {f.n for f in figures}
        what = "mean over seeds" if self.baseline else "mean ± half of Student's 95 % interval over seeds"
        notes = [f"{label(self.metric).capitalize()}, {what}."]
        if len(known) == 1:
            notes.append(f"n = {known.pop()} in every cell.")
        elif known:
            notes.append("n, the number of seeds, stands in brackets.")
        if singles and not self.baseline:
            which = "All cells" if len(singles) == len(figures) else f"{len(singles)} of {len(figures)} cells"
            notes.append(f"{which} have a single seed, and no interval.")
        if torn:
            notes.append(f"{len(torn)} of {len(figures)} cells lack seeds that were asked for (n of N).")
        if self.baseline:
            notes += _of_gains([entry.gain for entry in self.entries if entry.gain], self.baseline)
        elif any(entry.bold for entry in self.entries):
            notes.append(
                "Bold: the best of a column among rows that differ in the last axis alone, and those whose difference "
                "from it, paired by seed, has a 95 % interval that holds zero."
            )
        if self.usual:
            said = ", ".join(f"{name}={value}" for name, value in self.usual.items())
            notes.append(f"{OTHERS.capitalize()} names what differs from {said}.")
        return notes


def _columns(study: Study, layout: Layout) -> dict[str, str]:
    """The column of each cell, by the cell's key: its queries, and the budget's name where several ask as many."""
    if not layout.x:
        return {cell.key: label(layout.metric) for cell in study.cells}
    named = {cell.key: " ".join(cell.values[name] for name in layout.x) for cell in study.cells}
    alike: dict[int | None, set[str]] = {}
    for cell in study.cells:
        alike.setdefault(cell.queries, set()).add(named[cell.key])

    def column(cell: Cell) -> str:
        if cell.queries is None:
            return named[cell.key]
        return f"{cell.queries:,} queries" + (f" ({named[cell.key]})" if len(alike[cell.queries]) > 1 else "")

    return {cell.key: column(cell) for cell in study.cells}


def _folded(keys: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Of more columns than can be read, the last as one, which says what is unusual there; and what is usual."""
    if len(keys) <= MOST_KEYS:
        return list(keys), [list(row) for row in rows], {}
    first, rest = MOST_KEYS - 1, range(MOST_KEYS - 1, len(keys))
    usual = {place: Counter(row[place] for row in rows).most_common(1)[0][0] for place in rest}
    unusual = [", ".join(f"{keys[p]}={row[p]}" for p in rest if row[p] != usual[p]) for row in rows]
    values = [[*row[:first], said] for row, said in zip(rows, unusual, strict=True)]
    return [*keys[:first], OTHERS], values, {keys[place]: value for place, value in usual.items()}


def _best(cells: Sequence[Cell], layout: Layout, column: Mapping[str, str]) -> set[str]:
    """Of the cells of a panel, column by column, the best and those that cannot be told from it."""
    if layout.lines is None or layout.lines in APART:
        return set()
    found: set[str] = set()
    for name in {column[cell.key] for cell in cells}:
        alike = [cell for cell in cells if column[cell.key] == name and cell.figure(layout.metric)]
        if len(alike) < 2:
            continue
        means = {cell.key: f.mean for cell in alike if (f := cell.figure(layout.metric))}
        top = (min if least_is_best(layout.metric) else max)(alike, key=lambda cell: means[cell.key])
        found |= {cell.key for cell in alike if means[cell.key] == means[top.key] or _level(cell, top, layout.metric)}
    return found


def _level(cell: Cell, top: Cell, metric: str) -> bool:
    """Whether the difference from the best, paired by seed, has an interval that holds zero."""
    difference = Difference.of(top, cell, metric)
    return difference is not None and difference.paired and not difference.told


def _gains(panel: Panel, baseline: str, layout: Layout, column: Mapping[str, str]) -> dict[str, Difference]:
    """What each cell of a panel gains over the baseline's of its column, by the cell's key."""
    bases = {column[c.key]: c for c in panel.lines.get(baseline, []) if c.figure(layout.metric)}
    gains = {}
    for cell in panel.cells:
        base = bases.get(column[cell.key])
        if base and base is not cell and (gain := Difference.of(base, cell, layout.metric)):
            gains[cell.key] = gain
    return gains


def _of_gains(gains: Sequence[Difference], baseline: str) -> list[str]:
    """What has to be known of gains over a baseline."""
    tested, paired = [gain for gain in gains if gain.interval], [gain for gain in gains if gain.paired]
    notes = [f"In brackets the gain over {baseline}, paired by seed, ± half of its 95 % interval."]
    if len(paired) < len(tested):
        notes.append(f"{len(tested) - len(paired)} gains share no two seeds with it: Welch's interval.")
    if len(tested) < len(gains):
        notes.append(f"{len(gains) - len(tested)} gains have seeds too few for an interval.")
    if tested:
        told = sum(gain.told for gain in tested)
        chance = f"about {0.05 * len(tested):.1f} would by chance alone"
        notes.append(f"Bold: the interval leaves zero out, as {told} of {len(tested)} do; {chance}.")
    return notes
