"""The table that `pytest tests/bench` ends with: what ours takes, what the other form takes, what both share."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
COLUMNS = ("ours", "compared with", "theirs", "ours takes", "ratio", "same")


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        ours: what is computed.
        beside: the other form, or the limit.
        theirs: what the other form takes, in ``unit``; None if there is only a limit.
        mine: what ours takes.
        unit: of both; seconds are spelled in ms and us too.
        same: what was found equal, in the same run.
        ratio: ``theirs / mine``, if it is not that of the two columns (a median of paired ratios).
    """

    ours: str
    beside: str
    theirs: float | None
    mine: float
    unit: str = "s"
    same: str = ""
    ratio: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The row's cells, as in `COLUMNS`."""
        known = self.theirs / self.mine if self.ratio is None and self.theirs is not None else self.ratio
        theirs = "" if self.theirs is None else spell(self.theirs, self.unit)
        ratio = "" if known is None else f"{known:.2g}" if known < 100 else f"{known:.0f}"
        return (self.ours, self.beside, theirs, spell(self.mine, self.unit), ratio, self.same)


ROWS: list[Row] = []


def note(row: Row) -> None:
    """Add a row to the table."""
    ROWS.append(row)


def spell(value: float, unit: str) -> str:
    """A figure with its unit: seconds as s, ms or us."""
    if unit.startswith("s"):
        factor, prefix = next(((f, p) for f, p in ((1, ""), (1e3, "m"), (1e6, "u")) if value * f >= 1), (1e6, "u"))
        value, unit = value * factor, prefix + unit
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def write(rows: list[Row]) -> str:
    """The table in Markdown, and what it was measured on."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join([*lines, "", describe_machine()])


def describe_machine() -> str:
    """Processor, cores, threads, load and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in known if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}, load "
        f"{os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, {packages}."
    )
