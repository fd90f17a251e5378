"""``fmsteal compare A B``: which cells of a sweep moved in another one, and by more than chance? Imports no torch."""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from fmsteal.errors import FmstealError, StoreError
from fmsteal.report.layout import require_metric
from fmsteal.report.study import HEADLINE, Cell, Study, paired
from fmsteal.report.table import console, student_interval
from fmsteal.report.wording import number
from fmsteal.store import explained
from fmsteal.sweep.identity import AXES

TEXT = """\
Two sweeps cell by cell: the means of a metric over seeds, their difference (the second minus the first) and its 95 %
interval: Student's, paired by seed where seeds pair, else Welch's. Cells are matched by all their settings; those whose
settings have changed by the values of their axes, where that is unambiguous."""
COLUMNS = ("cell", "matched", "first", "second", "difference", "low", "high", "n", "test", "verdict")


@dataclass(frozen=True)
class Move:
    """A cell in both sweeps.

    Attributes:
        name: its values on the axes that vary.
        matched: ``settings``, or ``axes`` where the settings differ.
        first: its mean in the first sweep.
        second: in the second.
        difference: of the second from the first: over the seeds that pair, or of the means.
        interval: its 95 % interval; None where there are too few seeds.
        n: pairs, or the seeds of both.
        test: ``paired``, ``Welch`` or ``none``.
    """

    name: str
    matched: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    n: str
    test: str

    @property
    def verdict(self) -> str:
        """``up`` or ``down`` where the interval leaves zero out."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return ""
        return "up" if self.interval[0] > 0 else "down"


def main(words: Sequence[str]) -> None:
    """Compare the two sweeps named on the command line."""
    parser = argparse.ArgumentParser(
        prog="fmsteal compare", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path, metavar="A", help="a sweep's folder")
    parser.add_argument("second", type=Path, metavar="B", help="another one's")
    parser.add_argument("--metric", default=HEADLINE, metavar="NAME", help="to compare (%(default)s)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the rows as CSV")
    args = parser.parse_args(words[1:])
    try:
        _show(args)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def compare(one: Study, other: Study, metric: str = HEADLINE) -> tuple[list[Move], list[Cell], list[Cell]]:
    """The cells of both sweeps that have the metric in both, and those that are in one alone."""
    matches, left, right = _matched(one, other)
    names = [n for n in dict.fromkeys([*one.columns, *other.columns]) if n in AXES or n in one.columns]
    moves = []
    for mine, theirs, how in matches:
        move = _move(_name(mine, names), mine, theirs, how, metric)
        if move is not None:
            moves.append(move)
    return moves, left, right


def _move(name: str, mine: Cell, theirs: Cell, how: str, metric: str) -> Move | None:
    a, b = list(mine.by_seed(metric).values()), list(theirs.by_seed(metric).values())
    if not a or not b:
        return None
    first, second, pairs = statistics.fmean(a), statistics.fmean(b), paired(mine, theirs, metric)
    if len(pairs) > 1:
        gains = [after - before for before, after in pairs]
        return Move(
            name, how, first, second, statistics.fmean(gains), student_interval(gains), str(len(pairs)), "paired"
        )
    interval = _welch(a, b)
    test = "none" if interval is None else "Welch"
    return Move(name, how, first, second, second - first, interval, f"{len(a)}, {len(b)}", test)


def _welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        return None
    interval = ttest_ind(b, a, equal_var=False).confidence_interval()
    return float(interval.low), float(interval.high)


def _matched(one: Study, other: Study) -> tuple[list[tuple[Cell, Cell, str]], list[Cell], list[Cell]]:
    theirs = {cell.key: cell for cell in other.cells}
    found = [(cell, theirs.pop(cell.key), "settings") for cell in one.cells if cell.key in theirs]
    known = {cell.key for cell, _, _ in found}
    left, right = [cell for cell in one.cells if cell.key not in known], list(theirs.values())
    mine_by, theirs_by = _by_axes(left), _by_axes(right)
    for axes, cells in mine_by.items():
        if len(cells) == 1 and len(theirs_by.get(axes, [])) == 1:
            found.append((cells[0], theirs_by[axes][0], "axes"))
            left.remove(cells[0])
            right.remove(theirs_by[axes][0])
    order = {cell.key: place for place, cell in enumerate(one.cells)}
    return sorted(found, key=lambda match: order[match[0].key]), left, right


def _by_axes(cells: Sequence[Cell]) -> dict[tuple[tuple[str, str], ...], list[Cell]]:
    found: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        axes = tuple(sorted((name, str(v)) for name, v in cell.jobs[0].axis.items() if name != "seed"))
        found.setdefault(axes, []).append(cell)
    return found


def _name(cell: Cell, names: Sequence[str]) -> str:
    values = [str(cell.values.get(name, cell.jobs[0].axis.get(name, "none"))) for name in names]
    return " · ".join(values) or "the only cell"


def _show(args: argparse.Namespace) -> None:
    one, other = Study.of([args.first]), Study.of([args.second])
    for study in (one, other):
        require_metric(study, args.metric)
    if args.csv and not args.csv.absolute().parent.is_dir():
        raise StoreError(f"There is no folder {args.csv.absolute().parent} to write {args.csv.name} into.")
    moves, left, right = compare(one, other, args.metric)
    out = console()
    table = Table(title=f"{args.metric}: {args.first} and {args.second}", title_justify="left")
    for heading in ("cell", "first", "second", "difference", "95 % interval", "n", "test", ""):
        table.add_column(heading, justify="left" if heading in ("cell", "test", "") else "right", overflow="fold")
    for m in moves:
        interval = "-" if m.interval is None else f"{m.interval[0]:+.3f} to {m.interval[1]:+.3f}"
        name = m.name if m.matched == "settings" else f"{m.name} *"
        means = (number(m.first, args.metric), number(m.second, args.metric), f"{m.difference:+.3f}")
        table.add_row(name, *means, interval, m.n, m.test, m.verdict, style="bold" if m.verdict else None)
    out.print(table)
    if any(m.matched == "axes" for m in moves):
        out.print("* matched by its axes: some other setting differs", highlight=False)
    judged = [m for m in moves if m.interval is not None]
    told = sum(bool(m.verdict) for m in judged)
    line = f"{told} of {len(judged)} differences have an interval that leaves zero out"
    line += f"; by chance alone {0.05 * len(judged):.1f} would"
    if len(moves) > len(judged):
        line += f"; {len(moves) - len(judged)} with too few seeds for an interval"
    out.print(line, highlight=False, soft_wrap=True)
    for cells, study, where in ((left, one, args.first), (right, other, args.second)):
        for cell in cells:
            out.print(f"only in {where}: {_name(cell, study.columns)}", highlight=False, markup=False, soft_wrap=True)
    if unjudged := len(one.cells) - len(left) - len(moves):
        out.print(f"in both, but without the metric in one of them: {unjudged} cells", highlight=False)
    if args.csv:
        _write(moves, args.csv)


def _write(moves: Sequence[Move], file: Path) -> None:
    with explained(file.absolute().parent), file.open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        for m in moves:
            ends = m.interval or ("", "")
            rows.writerow([m.name, m.matched, m.first, m.second, m.difference, *ends, m.n, m.test, m.verdict])
