"""``fmsteal results`` in the terminal: a row for each job, with the axes that vary and the headline figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fmsteal.report.read import majority
from fmsteal.report.read.about import guess
from fmsteal.report.read.headlines import HEADLINES
from fmsteal.report.read.interval import IMAGES
from fmsteal.report.read.tidy import Row, list_columns
from fmsteal.report.show.whole import print_whole

ASKED = "axis.queries"  # the budget: the number of queries that a job may ask


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table with the axes that vary and the headline figures, then what is the same in all rows.

    The number of queries is one column, unless a job asked fewer than it may.
    """
    varying, once = _varying(rows), _ask_all(rows)
    if once:
        varying = [c for c in varying if c != ASKED]
        rows = [{"cost/queries": row.get(ASKED)} | row for row in rows]
    print_whole(_table(rows, varying, once), console)
    known = _common(rows, {*varying, *([ASKED] if once else [])})
    if known and len(rows) > 1:
        text = ", ".join(f"{name}={value}" for name, value in known.items() if value != "none")
        console.print(f"in all: {text}", highlight=False)
    console.print("every figure: --csv FILE or --parquet FILE", highlight=False)


def _varying(rows: Sequence[Row]) -> list[str]:
    """The axes on which the rows have more than one value."""
    return [c for c in _axes(rows) if len({str(row.get(c)) for row in rows if c in row}) > 1]


def _ask_all(rows: Sequence[Row]) -> bool:
    """Whether each job asked as many queries as its budget allows, as far as known."""
    budgets = [(row.get("cost/queries"), row.get(ASKED)) for row in rows]
    return all(asked == budget for asked, budget in budgets if isinstance(asked, int) and isinstance(budget, int))


def _common(rows: Sequence[Row], others: set[str]) -> dict[str, str]:
    """The axes with one value in all rows, by name, except ``others``."""
    same = [c for c in _axes(rows) if c not in others]
    return {c.removeprefix("axis."): next(str(row[c]) for row in rows if c in row) for c in same}


def _axes(rows: Sequence[Row]) -> list[str]:
    return [column for column in list_columns(rows) if column.startswith("axis.")]


def _table(rows: Sequence[Row], varying: Sequence[str], once: bool) -> Table:
    """The rows, and below them the majority class."""
    sweep = ["sweep"] if len({row["sweep"] for row in rows}) > 1 else []
    figures = [name for name in HEADLINES if any(name in row for row in rows)]
    told = [c.removeprefix("axis.") for c in varying]
    labels = [guess(name).label for name in figures]
    table = Table()
    for name in (*sweep, "job", *told, "seed", "state"):
        table.add_column(name, no_wrap=True)
    for name in (*labels, f"95 % interval ({IMAGES})", "queries" if once else "asked", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(row[name] for name in sweep), *_line(row, varying, figures))
    if any(least := _majority(rows, figures)):
        blank = [""] * (len(varying) + 2)
        table.add_row(*[""] * len(sweep), majority.NAME, *blank, *least, "", "0", "")
    return table


def _majority(rows: Sequence[Row], figures: Sequence[str]) -> list[str]:
    """The figures of the majority class, where the rows have them."""
    return [_range([row[key] for row in rows if (key := f"{name}.majority") in row]) for name in figures]


def _line(row: Row, varying: Sequence[str], figures: Sequence[str]) -> list[str]:
    """A row's texts, without its sweep."""
    low, high = (_figure(row.get(f"test/agreement.{end}"), 3) for end in ("low", "high"))
    return [
        row["job_key"][-8:] if any(c in row for c in varying) else row["job_key"],
        *("" if row.get(c) is None else str(row[c]) for c in (*varying, "seed")),
        row["state"],
        *(_figure(row.get(name), 3) for name in figures),
        f"{low} to {high}" if low and high else "",
        _figure(row.get("cost/queries"), 0),
        _figure(row.get("cost/seconds"), 0),
    ]


def _figure(value: Any, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else ""


def _range(values: Sequence[float]) -> str:
    """The range of a figure over several jobs, as text."""
    ends = list(dict.fromkeys(_figure(value, 3) for value in (min(values), max(values)))) if values else []
    return " to ".join(ends)
