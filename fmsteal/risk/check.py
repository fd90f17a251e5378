"""How well the model does on victims and studies that it has not seen: cross-validation over the measured cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fmsteal.risk.measured import MeasuredCell, read_cells
from fmsteal.risk.model import ExpectedAgreement, RiskPoint, choose_fitted, fit


@dataclass(frozen=True)
class LeftOutCell:
    """A cell, and what was expected of it from the cells of others."""

    cell: MeasuredCell
    expected: ExpectedAgreement

    @property
    def inside(self) -> bool:
        """Whether the measured figure lies in the interval."""
        return self.expected.low <= self.cell.agreement <= self.expected.high


@dataclass(frozen=True)
class Calibration:
    """How expectations of left-out cells did.

    Attributes:
        left_out: what was left out at a time: ``victim`` or ``study``.
        informed: whether the victim's accuracy was used.
        cells: each cell with its expectation.
    """

    left_out: str
    informed: bool
    cells: Sequence[LeftOutCell]

    @property
    def rank(self) -> float:
        """Spearman's rank correlation of expected and measured agreement."""
        from scipy.stats import spearmanr

        due = [held.cell.agreement for held in self.cells]
        return float(spearmanr([held.expected.agreement for held in self.cells], due).statistic)

    @property
    def error(self) -> float:
        """Mean absolute error of the expected agreement."""
        return statistics.fmean(abs(held.expected.agreement - held.cell.agreement) for held in self.cells)

    @property
    def inside(self) -> float:
        """The share of cells inside their interval."""
        return statistics.fmean(held.inside for held in self.cells)

    @property
    def width(self) -> float:
        """The mean width of the intervals."""
        return statistics.fmean(held.expected.high - held.expected.low for held in self.cells)

    @property
    def groups(self) -> int:
        """How many victims or studies there are."""
        return len({_GROUPS[self.left_out](held.cell) for held in self.cells})


_GROUPS: dict[str, Callable[[MeasuredCell], str]] = {
    "victim": lambda cell: cell.victim,
    "study": lambda cell: cell.study,
}


def validate(left_out: str, informed: bool, cells: Sequence[MeasuredCell] | None = None) -> Calibration:
    """Expect each cell from those of other victims (or studies) alone, the interval's width included.

    Args:
        left_out: ``victim`` or ``study``.
        informed: whether the victim's accuracy is used.
        cells: the cells that are fitted; None: those of ``measured.csv``.
    """
    group = _GROUPS[left_out]
    fitted = choose_fitted(read_cells()) if cells is None else cells
    models = {name: fit([cell for cell in fitted if group(cell) != name], informed) for name in map(group, fitted)}
    found = []
    for cell in fitted:
        point = RiskPoint(cell.trunk, cell.ratio, cell.classes, cell.accuracy if informed else None)
        found.append(LeftOutCell(cell, models[group(cell)].predict(point)))
    return Calibration(left_out, informed, found)


def validate_all() -> list[Calibration]:
    """By victim and by study, with and without the victim's accuracy."""
    return [validate(left_out, informed) for informed in (True, False) for left_out in ("victim", "study")]
