"""Terminal tables whose names are not wrapped."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST = 10_000  # characters


def print_whole(table: Table, out: Console) -> None:
    """Print a table with columns that do not wrap: wider than the terminal if they need it."""
    width = out.width
    out.width = max(width, Measurement.get(out, out.options.update(width=WIDEST), table).minimum)
    out.print(table)
    out.width = width
