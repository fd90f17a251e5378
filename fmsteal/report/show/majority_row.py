"""The majority class as rows of a table, one for each victim, beside the victim's cells. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fmsteal.report.read import majority
from fmsteal.report.read.about import bounds
from fmsteal.report.read.interval import SeedFigure
from fmsteal.report.read.study import Cell, Figure
from fmsteal.report.show.layout import APART


def average_figure(cells: Sequence[Cell], metric: str) -> Figure | None:
    """The majority class's mean figure over seeds for cells of one victim; None if no job has predictions for it."""
    by_seed: dict[int | None, list[SeedFigure]] = {}
    for cell in cells:
        for job in cell.done:
            value = majority.scores(job.on_disk.folder).get(metric)
            if value is not None and (point := job.point(metric, value)):
                by_seed.setdefault(job.seed, []).append(point)
    points = [replace(found[0], value=math.fsum(p.value for p in found) / len(found)) for found in by_seed.values()]
    return Figure.over(points, len(points), bounds(metric)) if points else None


def find_row(keys: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """The row of the majority class that a cell of a table belongs to: its values on the columns ``keys``.

    Only columns that determine victim and data keep their values; of the others, ``attack`` holds the row's name, or
    else the first.
    """
    if not keys:
        return (majority.NAME,)
    row = [values[key] if _is_victims(key) else "" for key in keys]
    others = [place for place, key in enumerate(keys) if not _is_victims(key)]
    free = keys.index("attack") if "attack" in keys else next(iter(others), None)
    if free is None:
        row[-1] += f" ({majority.NAME})"
    else:
        row[free] = majority.NAME
    return tuple(row)


def _is_victims(column: str) -> bool:
    """Whether a column determines the victim or the data that figures are of."""
    return column.partition(".")[0] in APART or column == "victim_adaptation"
