"""Between which values cells were measured, and how far outside of them a victim is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fmsteal.risk.measured import MeasuredCell
from fmsteal.risk.model import RiskPoint

Span = tuple[float, float]


@dataclass(frozen=True)
class MeasuredRange:
    """The least and greatest values of the cells of one kind of trunk."""

    ratios: Span
    widths: Span
    queries: Span
    accuracies: Span
    classes: Span

    @classmethod
    def of(cls, cells: Sequence[MeasuredCell]) -> MeasuredRange:
        """The range of cells."""
        return cls(
            _span(cell.ratio for cell in cells), _span(cell.width for cell in cells),
            _span(cell.queries for cell in cells), _span(cell.accuracy for cell in cells),
            _span(cell.classes for cell in cells),
        )  # fmt: skip

    def clamp(self, queries: int, unknowns: int) -> int:
        """The budget nearest to ``queries`` that is inside, in queries and in queries for each unknown."""
        least, most = max(self.queries[0], self.ratios[0] * unknowns), min(self.queries[1], self.ratios[1] * unknowns)
        return round(min(max(queries, least), max(most, least)))

    def judge(self, point: RiskPoint, width: int, queries: int) -> tuple[float, tuple[str, ...]]:
        """How far outside a point is, as a sum of differences of logarithms, and in what respects, in words."""
        values: list[tuple[str, float, Span]] = [
            ("queries for each unknown", point.ratio, self.ratios),
            ("features", width, self.widths),
            ("queries", queries, self.queries),
            ("classes", point.classes, self.classes),
        ]
        if point.accuracy is not None:
            values.append(("accuracy", point.accuracy, self.accuracies))
        distance, words = 0.0, []
        for name, value, (least, most) in values:
            if not least <= value <= most:
                distance += abs(math.log(value / (least if value < least else most)))
                words.append(f"{name} {'<' if value < least else '>'} {_spell(least if value < least else most)}")
        return distance, tuple(words)


def _span(values: Iterable[float]) -> Span:
    found = list(values)
    return min(found), max(found)


def _spell(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
