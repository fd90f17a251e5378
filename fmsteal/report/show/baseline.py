"""How the choices of an axis differ from a baseline choice, cell by cell. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.difference import Difference
from fmsteal.report.read.holm import LEVEL, adjust
from fmsteal.report.read.study import Cell, Figure, Study
from fmsteal.report.show.layout import Layout, Panel


def require_choice(study: Study, layout: Layout, baseline: str) -> None:
    """Make sure that a baseline is a choice of the axis that is compared.

    Raises:
        FmstealError: it is not one, or no axis is left to compare.
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


def find_differences(
    panels: Sequence[Panel], baseline: str, metric: str, column: Mapping[str, str]
) -> dict[str, Difference]:
    """Each cell's difference from the baseline's cell in the same panel and column, by the cell's key.

    The comparisons of all panels are one family: their p-values are adjusted together, by Holm's method.
    """
    found: dict[str, Difference] = {}
    for panel in panels:
        bases: dict[str, Cell] = {column[c.key]: c for c in panel.lines.get(baseline, []) if c.figure(metric)}
        for cell in panel.cells:
            base = bases.get(column[cell.key])
            if base and base is not cell and (difference := Difference.of(base, cell, metric)):
                found[cell.key] = difference
    chances = {key: difference.chance for key, difference in found.items() if difference.chance is not None}
    adjusted = dict(zip(chances, adjust(list(chances.values())), strict=True))
    return {key: replace(difference, adjusted=adjusted.get(key)) for key, difference in found.items()}


@dataclass(frozen=True)
class Baseline:
    """What the figures of a table are compared with.

    Attributes:
        axis: the axis of which it is a choice.
        choice: the choice, as ``knockoff``.
        judged: whether a difference may be called more than chance; figures of two victims are of different things.
        alone: how many figures of other choices have no baseline to compare with.
        higher_is_better: whether a higher value means a better theft; None if neither direction does.
    """

    axis: str
    choice: str
    judged: bool
    alone: int
    higher_is_better: bool | None

    @property
    def name(self) -> str:
        """Axis and choice, as ``attack knockoff``."""
        return f"{self.axis} {self.choice}"

    def notes(self, beside: Sequence[tuple[Figure, Difference]]) -> list[str]:
        """What a reader must know about the differences; ``beside`` holds each with its figure."""
        sign = " Here less is more of a theft." if self.higher_is_better is False else ""
        said = f"In [ ] the difference from {self.name}, paired by seed, ± half of its 95 % interval over seeds.{sign}"
        tested = [difference for _, difference in beside if difference.interval]
        return [said, *self._exceptions(beside), *self._bold(tested)]

    def _exceptions(self, beside: Sequence[tuple[Figure, Difference]]) -> Iterator[str]:
        """How many differences lack seeds, are not paired, have no interval, or are missing."""
        found = [difference for _, difference in beside]
        few = sum(difference.paired and difference.seeds < figure.n for figure, difference in beside)
        for count, what in (
            (few, "rest on fewer seeds than their cell has, those that both have"),
            (
                sum(d.interval is not None and not d.paired for d in found),
                "share no two seeds with it (Welch's interval)",
            ),
            (
                sum(d.interval is None for d in found),
                "have too few seeds for an interval, or seeds that all say the same",
            ),
            (self.alone, "are missing, of cells without such a baseline beside them"),
        ):
            if count:
                yield f"Of the differences, {count} {what}."

    def _bold(self, tested: Sequence[Difference]) -> Iterator[str]:
        """What bold means, or why nothing is bold."""
        if not self.judged:
            yield f"None is bold: figures of two choices of {self.axis} are figures of different things."
        elif self.higher_is_better is None:
            yield "None is bold: neither more nor less of this metric is more of a theft, or nothing says which."
        elif tested:
            hold, alone = (sum(getattr(d, what) for d in tested) for what in ("holds", "told"))
            family = f"all {len(tested)} comparisons of the table" if len(tested) > 1 else "the one comparison"
            yield (
                f"Bold: more than chance by Holm's correction over {family} (at {100 * LEVEL:.0f} %), as {hold} are; "
                f"taken one by one, {alone} of their intervals exclude zero."
            )
