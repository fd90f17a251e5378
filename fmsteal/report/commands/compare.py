"""``fmsteal compare``: which cells differ between two sweeps, by how much, and whether by more than chance.

`fmsteal.report.read.difference` judges the differences. Imports no torch.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fmsteal.base.shown import escape_cell as safe
from fmsteal.base.store import explain_errors
from fmsteal.identity.keys import AXES
from fmsteal.report.commands.arguments import end_if_refused, make_parser, require_folder
from fmsteal.report.read.about import About, describe, guess
from fmsteal.report.read.difference import Difference
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Cell, Study, StudyJob
from fmsteal.report.show.layout import require_metric
from fmsteal.report.show.table import console
from fmsteal.report.show.wording import describe_missing, format_number

TEXT = """\
Which cells moved between two sweeps: the difference B - A of their means over seeds, with a 95 % interval over
seeds, and whether that excludes zero. Cells are matched by all their settings; those that differ there in both sweeps
alike, by the values of their axes. Seeds are paired where both have them."""


@dataclass(frozen=True)
class Move:
    """A cell that both sweeps have.

    Attributes:
        name: its values on the axes that vary in either sweep.
        one, other: the cell in each sweep.
        difference: the other's figure minus the one's; None if either has none.
    """

    name: str
    one: Cell
    other: Cell
    difference: Difference | None

    @property
    def told(self) -> bool:
        """Whether it moved by more than chance."""
        return self.difference is not None and self.difference.told


@dataclass(frozen=True)
class Comparison:
    """Two sweeps side by side.

    Attributes:
        moves: the cells that both have, sorted by `_rank`.
        only: names of the cells that only the first sweep has, and that only the second has.
        by_axes: how many cells were matched by their axes, since their settings differ.
        settings: the settings in which these differ, with both values.
        about: the metric's label and direction.
    """

    moves: list[Move]
    only: tuple[list[str], list[str]]
    by_axes: int
    settings: dict[str, tuple[Any, Any]]
    about: About


def compare(one: Study, other: Study, metric: str = HEADLINE) -> Comparison:
    """Match the cells of two sweeps and find their differences.

    Raises:
        FmstealError: no finished job of a sweep has the metric.
    """
    for study in (one, other):
        require_metric(study, metric)
    theirs = {cell.key: cell for cell in other.cells}
    pairs = [(cell, theirs[cell.key]) for cell in one.cells if cell.key in theirs]
    left, right = _without(one.cells, [a for a, _ in pairs]), _without(other.cells, [b for _, b in pairs])
    alike = _by_axes(left, right)
    settings = {key: both for a, b in alike for key, both in _different(a, b).items()}
    varying = _varying([*one.cells, *other.cells])
    moves = [Move(_name(a, varying), a, b, Difference.of(a, b, metric)) for a, b in (*pairs, *alike)]
    moves.sort(key=_rank)
    gone, new = _without(left, [a for a, _ in alike]), _without(right, [b for _, b in alike])
    only = [_name(cell, varying) for cell in gone], [_name(cell, varying) for cell in new]
    return Comparison(moves, only, len(alike), settings, _about(metric, (*one.done, *other.done)))


def _rank(move: Move) -> tuple[bool, bool, float]:
    """Sort key of a move: more than chance first, then the largest; without a difference last."""
    size = abs(move.difference.value) if move.difference else 0.0
    return move.difference is None, not move.told, -size


def _about(metric: str, jobs: Iterable[StudyJob]) -> About:
    results = [job.on_disk.result for job in jobs if job.on_disk.result]
    return describe(results).get(metric) or guess(metric)


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Compare the two sweeps named on the command line."""
    parser = make_parser("compare", TEXT)
    parser.add_argument("one", type=Path, metavar="A", help="a sweep's folder: outputs/sweeps/<sweep_id>")
    parser.add_argument("other", type=Path, metavar="B", help="the one that is compared with it")
    parser.add_argument("--metric", default=HEADLINE, metavar="NAME", help="what is compared (%(default)s)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write it as CSV too; - is the standard output")
    args = parser.parse_args(words[1:])
    if args.csv:
        require_folder(args.csv)
    found = compare(Study.of([args.one]), Study.of([args.other]), args.metric)
    if str(args.csv) == "-":
        _csv(found, args.metric, sys.stdout)
        return
    _show(found, args.metric, (str(args.one), str(args.other)))
    if args.csv:
        with explain_errors(args.csv.absolute().parent), args.csv.open("w", newline="") as stream:
            _csv(found, args.metric, stream)


def _show(found: Comparison, metric: str, names: tuple[str, str]) -> None:
    out = console()
    table = Table(
        title=f"{escape(found.about.label)}: A = {escape(names[0])}, B = {escape(names[1])}", title_justify="left"
    )
    table.add_column("cell", overflow="fold")
    for heading in ("A", "B", "B - A", "95 % interval (seeds)"):
        table.add_column(heading, justify="right")
    table.add_column("by")
    for m in found.moves:
        cells = (_text(m.one, metric), _text(m.other, metric), *_change(m.difference))
        table.add_row(escape(m.name), *map(escape, cells), style="bold" if m.told else None)
    if found.moves:
        out.print(table)
    for line in list_remarks(found):
        out.print(line, highlight=False, markup=False)


def list_remarks(found: Comparison) -> list[str]:
    """What a reader must know besides the table."""
    tested = [m for m in found.moves if m.difference and m.difference.interval]
    said = []
    if not found.moves:
        said.append("The sweeps have no cell in common.")
    if tested:
        told = sum(m.told for m in tested)
        said.append(
            f"{told} of {len(tested)} intervals exclude zero (bold); if nothing had changed, about "
            f"{0.05 * len(tested):.1f} would by chance."
        )
    if found.about.higher_is_better is False:
        said.append("Here less is more of a theft.")
    if bare := sum(m.difference is not None for m in found.moves) - len(tested):
        why = "have fewer than three seeds to compare, or seeds that all say the same"
        said.append(f"{bare} cells {why}: no interval.")
    if none := sum(m.difference is None for m in found.moves):
        said.append(f"{none} cells have no figure on one side at least.")
    return said + _unmatched(found)


def _unmatched(found: Comparison) -> list[str]:
    """Which cells were matched by their axes alone, and which were not matched."""
    said = []
    if found.by_axes:
        what = ", ".join(f"{k} ({a} -> {b})" for k, (a, b) in list(found.settings.items())[:8])
        more = f" and {len(found.settings) - 8} more" if len(found.settings) > 8 else ""
        inside = f"they differ in {what}{more}" if what else "in which nothing tells, as no job of one is finished"
        said.append(f"{found.by_axes} cells were matched by their axes, not by all settings: {inside}.")
    for name, cells in zip("AB", found.only, strict=True):
        if cells:
            some = "; ".join(cells[:5]) + (f"; and {len(cells) - 5} more" if len(cells) > 5 else "")
            said.append(f"only in {name}, {len(cells)} cells: {some}")
    return said


def _csv(found: Comparison, metric: str, stream: Any) -> None:
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["cell", "metric", "a", "b", "seeds_a", "seeds_b", "difference", "low", "high", "by", "told"])
    for m in found.moves:
        figures = [cell.figure(metric) for cell in (m.one, m.other)]
        means, counts = [f.mean if f else "" for f in figures], [f.n if f else 0 for f in figures]
        d = m.difference
        change = (d.value, *(d.interval or ("", "")), d.by) if d else ("", "", "", "")
        rows.writerow([safe(m.name), safe(metric), *means, *counts, *change, int(m.told)])
    for name, cells in zip("ab", found.only, strict=True):
        rows.writerows([safe(cell), safe(metric), "", "", "", "", "", "", "", f"only in {name}", ""] for cell in cells)


def _change(difference: Difference | None) -> tuple[str, str, str]:
    if difference is None:
        return "", "", ""
    low_high = "" if difference.interval is None else "{:+.3f} to {:+.3f}".format(*difference.interval)
    return f"{difference.value:+.3f}", low_high, difference.by


def _text(cell: Cell, metric: str) -> str:
    figure = cell.figure(metric)
    if figure is None:
        return describe_missing(cell)
    return format_number(figure.mean, metric) + ("" if figure.whole else f" ({figure.n} of {figure.of})")


def _axes(cell: Cell) -> dict[str, str]:
    """The axes of a cell's jobs, without the seed."""
    return {name: str(value) for name, value in cell.jobs[0].axis.items() if name != "seed"}


def _settings(cell: Cell) -> dict[str, Any]:
    return next(
        (j.on_disk.result["settings"] for j in cell.done if j.on_disk.result and "settings" in j.on_disk.result), {}
    )


def _different(one: Cell, other: Cell) -> dict[str, tuple[Any, Any]]:
    a, b = _settings(one), _settings(other)
    if not a or not b:
        return {}
    return {name: (a.get(name), b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


def _by_axes(left: Sequence[Cell], right: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """The pairs of cells that have the same axes, which no other cell of either sweep has."""
    sides: list[dict[str, list[Cell]]] = [{}, {}]
    shared = set.intersection(*({name for c in cells for name in _axes(c)} for cells in (left, right)))
    for side, cells in zip(sides, (left, right), strict=True):
        for cell in cells:
            side.setdefault(repr(sorted((k, v) for k, v in _axes(cell).items() if k in shared)), []).append(cell)
    return [
        (cells[0], sides[1][key][0])
        for key, cells in sides[0].items()
        if len(cells) == 1 and len(sides[1].get(key, ())) == 1
    ]


def _varying(cells: Sequence[Cell]) -> list[str]:
    """The columns that name a cell: the axes that vary over both sweeps, then the sweeps' other columns."""
    axes = [name for name in AXES if len({_axes(cell).get(name) for cell in cells}) > 1]
    return axes + [
        n for n in dict.fromkeys(n for cell in cells for n in cell.values) if n not in axes and n not in AXES
    ]


def _name(cell: Cell, varying: Sequence[str]) -> str:
    known = {**_axes(cell), **cell.values}
    return ", ".join(f"{name} {known[name]}" for name in varying if name in known) or "the only cell"


def _without(cells: Sequence[Cell], some: Sequence[Cell]) -> list[Cell]:
    gone = {cell.key for cell in some}
    return [cell for cell in cells if cell.key not in gone]
