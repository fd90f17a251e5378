"""How the choices of an axis differ from one of them, cell by cell. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmsteal.errors import FmstealError
from fmsteal.report.difference import Difference
from fmsteal.report.layout import Layout, Panel
from fmsteal.report.study import Cell, Figure, Study
from fmsteal.report.wording import least_is_best


def require_choice(study: Study, layout: Layout, baseline: str) -> None:
    """Make sure that a baseline is a choice of the axis that is compared.

    Raises:
        FmstealError: it is none, or no axis is left to compare.
    """
    if layout.lines is None:
        varies = ", ".join(study.columns) or "nothing but the seed"
        raise FmstealError(f"No axis is left on which {baseline} could be compared with others. What varies: {varies}.")
    choices = study.values(layout.lines)
    if baseline not in choices:
        raise FmstealError(
            f"There is no {baseline} to compare with. Of {layout.lines} there is: {', '.join(choices)}. Another axis: "
            "--by."
        )


def differences(panel: Panel, baseline: str, metric: str, column: Mapping[str, str]) -> dict[str, Difference]:
    """What each cell of a panel differs by from the baseline's cell of its column, by the cell's key."""
    bases: dict[str, Cell] = {column[c.key]: c for c in panel.lines.get(baseline, []) if c.figure(metric)}
    found = {}
    for cell in panel.cells:
        base = bases.get(column[cell.key])
        if base and base is not cell and (difference := Difference.of(base, cell, metric)):
            found[cell.key] = difference
    return found


@dataclass(frozen=True)
class Baseline:
    """What the figures of a table are compared with.

    Attributes:
        axis: of which it is a choice.
        choice: as ``knockoff``.
        judged: whether a difference may be called more than chance: figures of two victims are of different things.
        alone: how many figures of other choices have no baseline beside them.
    """

    axis: str
    choice: str
    judged: bool
    alone: int

    @property
    def name(self) -> str:
        """As ``attack knockoff``."""
        return f"{self.axis} {self.choice}"

    def notes(self, beside: Sequence[tuple[Figure, Difference]], metric: str) -> list[str]:
        """What has to be known of the differences: every figure that has one, with it."""
        found = [difference for _, difference in beside]
        tested = [difference for difference in found if difference.interval]
        sign = " Here less is more of a theft." if least_is_best(metric) else ""
        said = [f"In [ ] the difference from {self.name}, paired by seed, ± half of its 95 % interval.{sign}"]
        few = sum(difference.paired and difference.seeds < figure.n for figure, difference in beside)
        for count, what in (
            (few, "rest on fewer seeds than their cell has, those that both have"),
            (sum(not difference.paired for difference in tested), "share no two seeds with it (Welch's interval)"),
            (len(found) - len(tested), "have too few seeds for an interval"),
            (self.alone, "are missing, of cells without such a baseline beside them"),
        ):
            if count:
                said.append(f"Of the differences, {count} {what}.")
        if not self.judged:
            said.append(f"None is bold: figures of two choices of {self.axis} are figures of different things.")
        elif tested:
            told = sum(difference.told for difference in tested)
            chance = f"about {0.05 * len(tested):.1f} would by chance alone"
            said.append(f"Bold: the interval leaves zero out, as {told} of {len(tested)} do; {chance}.")
        return said
