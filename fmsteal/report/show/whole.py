"""Tables in the terminal whose names stay whole."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST = 10_000  # characters


def print_whole(table: Table, out: Console) -> None:
    """Print a table of which some columns do not wrap: where they have no room, wider than the terminal."""
    width = out.width
    out.width = max(width, Measurement.get(out, out.options.update(width=WIDEST), table).minimum)
    out.print(table)
    out.width = width
