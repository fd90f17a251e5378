"""A metric of a study as a table: for the terminal, in Markdown, in LaTeX. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table as RichTable
from rich.text import Text

from fmsteal.report.interval import student_interval
from fmsteal.report.layout import APART, Layout
from fmsteal.report.study import Cell, Figure, Study, paired
from fmsteal.report.wording import label, least_is_best, missing, number, seeds

LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip

MOST_KEYS = 8  # columns that tell rows apart
OTHERS = "others"  # the column of all further axes


@dataclass(frozen=True)
class Entry:
    """What a table says of a cell.

    Attributes:
        figure: the metric's mean and interval; None where no job has it.
        absent: what became of the jobs, where there is no figure; "" where the study has no such cell.
        best: whether it is the best of those that it may be compared with, or cannot be told from the best.
    """

    figure: Figure | None = None
    absent: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A metric of all cells.

    Attributes:
        metric: its name.
        keys: the columns that tell the rows apart.
        columns: numbers of queries, or the metric where they do not vary.
        rows: of each row its values on ``keys``, and an entry for each column.
        usual: the most frequent values of axes that have no column of their own, since there are too many.
    """

    metric: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Entry]]]
    usual: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, layout: Layout) -> Table:
        """Lay the study out: a row for each combination of the axes, a column for each number of queries."""
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
                best = _best(panel.cells, layout, column)
                for cell in panel.cells:
                    row = found.setdefault(tuple(cell.values[key] for key in keys), {})
                    figure = cell.figure(layout.metric)
                    row[column[cell.key]] = Entry(figure, "" if figure else missing(cell), cell.key in best)
        heads, values, usual = _folded(keys, list(found))
        rows = [
            (row, [found[key].get(name, Entry()) for name in across]) for row, key in zip(values, found, strict=True)
        ]
        return cls(layout.metric, heads, across, rows, usual)

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
        notes = [f"{label(self.metric).capitalize()}, mean ± half of Student's 95 % interval over seeds."]
        if len(known) == 1:
            notes.append(f"n = {known.pop()} in every cell.")
        elif known:
            notes.append("n, the number of seeds, stands in brackets.")
        if singles:
            which = "All cells" if len(singles) == len(figures) else f"{len(singles)} of {len(figures)} cells"
            notes.append(f"{which} have a single seed, and no interval.")
        if torn:
            notes.append(f"{len(torn)} of {len(figures)} cells lack seeds that were asked for (n of N).")
        if any(entry.best for entry in self.entries):
            notes.append(
                "Bold: the best of a column among rows that differ in the last axis alone, and those whose difference "
                "from it, paired by seed, has a 95 % interval that holds zero."
            )
        if self.usual:
            said = ", ".join(f"{name}={value}" for name, value in self.usual.items())
            notes.append(f"{OTHERS.capitalize()} names what differs from {said}.")
        return notes


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    head = [*table.keys, *table.columns]
    lines = ["| " + " | ".join(_md(name) for name in head) + " |"]
    lines.append("|" + "---|" * len(table.keys) + "---:|" * len(table.columns))
    several = _several(table)
    for values, row in table.rows:
        texts = [_text(entry, table.metric, several) for entry in row]
        bold = [f"**{text}**" if entry.best else text for text, entry in zip(texts, row, strict=True)]
        lines.append("| " + " | ".join([*(_md(v) for v in values), *bold]) + " |")
    return "\n".join([*lines, "", *table.notes, ""])


def latex(table: Table) -> str:
    r"""The table in LaTeX: ``\input`` it; it needs the package booktabs."""
    several = _several(table)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * len(table.keys) + "r" * len(table.columns) + "}",
        r"\toprule",
        " & ".join(_tex(name) for name in (*table.keys, *table.columns)) + r" \\",
        r"\midrule",
    ]
    for values, row in table.rows:
        texts = [_tex(_text(entry, table.metric, several)).replace("±", r"$\pm$") for entry in row]
        bold = [rf"\textbf{{{text}}}" if entry.best else text for text, entry in zip(texts, row, strict=True)]
        lines.append(" & ".join([*map(_tex, values), *bold]) + r" \\")
    notes = [f"% {line}" for line in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


def terminal(table: Table, title: str) -> RichTable:
    """The table for the terminal."""
    shown = RichTable(title=title, title_justify="left", caption=" ".join(table.notes), caption_justify="left")
    for name in table.keys:
        shown.add_column(name, overflow="fold")
    for name in table.columns:
        shown.add_column(name, justify="right")
    several = _several(table)
    for values, row in table.rows:
        texts = [Text(_text(e, table.metric, several), style="bold" if e.best else "") for e in row]
        shown.add_row(*values, *texts)
    return shown


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
    """Whether the paired difference from the best has an interval that holds zero."""
    interval = student_interval([a - b for a, b in paired(cell, top, metric)])
    return interval is not None and interval[0] <= 0 <= interval[1]


def _several(table: Table) -> bool:
    """Whether the number of seeds differs between cells, so that each has to say its own."""
    return len({(e.figure.n, e.figure.whole) for e in table.entries if e.figure}) > 1


def _text(entry: Entry, metric: str, several: bool) -> str:
    if entry.figure is None:
        return entry.absent
    half = entry.figure.half
    text = number(entry.figure.mean, metric) + (f" ± {number(half, metric)}" if half is not None else "")
    return f"{text} ({seeds(entry.figure)})" if several or not entry.figure.whole else text


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def _tex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
