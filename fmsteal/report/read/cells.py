"""A cell's figures as a tracking service shows them: means over seeds, with the intervals of `fmsteal report`."""

from __future__ import annotations

from typing import Any, Final

from fmsteal.report.read.study import Cell, Study

CELL: Final = "cell"  # the kind of such a run
HALF, LOW, HIGH = "_half", "_low", "_high"  # after a figure's name: half the width and the ends of its interval
COUNT, ASKED = "n", "n_asked"  # how many seeds are finished, and how many were asked for


def make_figures(study: Study, cell: Cell) -> dict[str, float]:
    """The means of all figures, by name, and the intervals of those that have one, see `HALF`.

    A figure that fewer seeds have than are finished has its own count: ``test/kl_n``.
    """
    found: dict[str, float] = {COUNT: len(cell.done), ASKED: len(cell.jobs)}
    for metric in study.metrics:
        if (figure := cell.figure(metric)) is None:
            continue
        found[metric] = figure.mean
        if figure.interval is not None:
            low, high = figure.interval
            found |= {metric + HALF: (high - low) / 2, metric + LOW: low, metric + HIGH: high}
        if figure.n != len(cell.done):
            found[f"{metric}_{COUNT}"] = figure.n
    return found


def make_axis(cell: Cell) -> dict[str, Any]:
    """The columns of the cell's finished jobs; ``several`` where they differ, and no seed."""
    first, *others = [job.axis for job in cell.done]
    same = {name: value if all(a.get(name) == value for a in others) else "several" for name, value in first.items()}
    return {**same, "seed": None}
