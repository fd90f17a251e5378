"""Two axes of a study as the rows and columns of a table, with a table for each combination of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from fmsteal.report.read.study import Cell, Study

PAIRS = (("victim", "thief"), ("attack", "defense"), ("victim", "attack"), ("thief", "attack"))  # preferred first


@dataclass(frozen=True)
class Matrix:
    """One table.

    Attributes:
        rest: the table's values on the study's other columns.
        cells: the cells by row and column; more than one if nothing distinguishes them.
    """

    rest: Mapping[str, str]
    cells: Mapping[tuple[str, str], Sequence[Cell]]


def choose_pair(study: Study) -> tuple[str, str] | None:
    """The axes to lay out as rows and columns; None unless two vary. Budgets are left to curves."""
    varying = [name for name in study.columns if name not in ("budget", "queries")]
    for rows, columns in PAIRS:
        if rows in varying and columns in varying:
            return rows, columns
    return next(combinations(varying, 2), None)


def make_matrices(study: Study, rows: str, columns: str) -> list[Matrix]:
    """A table for each combination of the other columns."""
    rest = [name for name in study.columns if name not in (rows, columns)]
    found = []
    for values, cells in study.groups([rows, columns]).items():
        places: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            places.setdefault((cell.values[rows], cell.values[columns]), []).append(cell)
        found.append(Matrix(dict(zip(rest, values, strict=True)), places))
    return found
