"""Expected agreement from few numbers of a victim: a power law, fitted to the measured cells by least squares.

Log odds are counted from chance, that of one class among C: ``z(a) = logit a - logit 1/C``. With q queries for each
unknown, the thief's ``z`` is ``exp(c) q^b z(victim's accuracy)^g``, times a factor if it shares the victim's trunk:
``log z = c + s [shared] + b log q + g log z(accuracy)``. Without the accuracy the last term is left out. This is one
straight line in four numbers, and all else that differs between victims is in the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fmsteal.risk.exact import count_exact
from fmsteal.risk.measured import SHARED, SOFT, MeasuredCell, Trunk, find_strongest

LEVEL = 0.9  # of the prediction intervals
Floats = npt.NDArray[np.float64]
MOST = 0.9995  # no test set of ours tells a higher share from this one


@dataclass(frozen=True)
class RiskPoint:
    """What an expectation depends on.

    Attributes:
        trunk: whether the thief has the victim's trunk.
        ratio: queries for each unknown of a class.
        classes: number of classes.
        accuracy: the victim's; None: unknown.
    """

    trunk: Trunk
    ratio: float
    classes: int
    accuracy: float | None = None


@dataclass(frozen=True)
class ExpectedAgreement:
    """An expected agreement and its prediction interval."""

    agreement: float
    low: float
    high: float


@dataclass(frozen=True)
class RiskModel:
    """The fitted line.

    Attributes:
        coefficients: of 1, [shared], log ratio and, with ``informed``, log z(accuracy).
        informed: whether it takes the victim's accuracy.
        scale: root mean square, over victims, of the residuals in log z when a victim is predicted from the others.
        groups: how many victims there are.
    """

    coefficients: tuple[float, ...]
    informed: bool
    scale: float
    groups: int

    @property
    def half(self) -> float:
        """Half the width of a prediction interval in log z: Student's t, one degree of freedom less than victims."""
        from scipy.special import stdtrit

        return float(stdtrit(self.groups - 1, (1 + LEVEL) / 2)) * self.scale

    def predict(self, point: RiskPoint, shift: float = 0.0, wider: float = 1.0) -> ExpectedAgreement:
        """The expectation at a point, moved by ``shift`` in log z, with an interval ``wider`` times as wide."""
        middle = float(np.dot(_describe(point, self.informed), self.coefficients)) + shift
        low, high = middle - wider * self.half, middle + wider * self.half
        return ExpectedAgreement(*(from_evidence(math.exp(value), point.classes) for value in (middle, low, high)))


def to_evidence(share: float, classes: int) -> float:
    """z: the log odds of a share of images above those of chance; shares at or below chance are refused.

    Raises:
        ValueError: the share is not above chance.
    """
    share = min(share, MOST)
    if not share > 1 / classes:
        raise ValueError(f"{share:g} is no more than the chance of one class among {classes}.")
    return math.log(share / (1 - share)) + math.log(classes - 1)


def from_evidence(evidence: float, classes: int) -> float:
    """The share of images whose log odds are ``evidence`` above chance."""
    return 1 / (1 + (classes - 1) * math.exp(-evidence))


def is_exact(cell: MeasuredCell) -> bool:
    """Whether a cell has enough soft answers for a head to be solved for: agreement 1, to which no line is fitted."""
    return cell.trunk == SHARED and cell.answers == SOFT and cell.queries >= count_exact(cell.width, cell.classes)


def choose_fitted(cells: Sequence[MeasuredCell]) -> list[MeasuredCell]:
    """The cells that a line is fitted to: of soft answers, the strongest attacker of each situation, none exact."""
    found = [cell for cell in cells if cell.use == "fit" and cell.answers == SOFT and not is_exact(cell)]
    return find_strongest(found)


def fit(cells: Sequence[MeasuredCell], informed: bool = True) -> RiskModel:
    """Fit the line to cells, and find its scale by leaving out one victim after the other."""
    groups = sorted({cell.victim for cell in cells})
    rows, due = _rows(cells, informed), _due(cells)
    of = np.array([groups.index(cell.victim) for cell in cells])
    squares = []
    for group in range(len(groups)):
        left = of == group
        off = due[left] - rows[left] @ _solve(rows[~left], due[~left])
        squares.append(float(np.mean(off**2)))
    found = tuple(float(value) for value in _solve(rows, due))
    return RiskModel(found, informed, math.sqrt(sum(squares) / len(squares)), len(groups))


def _describe(point: RiskPoint, informed: bool) -> list[float]:
    row = [1.0, float(point.trunk == SHARED), math.log(point.ratio)]
    if informed:
        assert point.accuracy is not None
        row.append(math.log(to_evidence(point.accuracy, point.classes)))
    return row


def _rows(cells: Sequence[MeasuredCell], informed: bool) -> Floats:
    points = [RiskPoint(cell.trunk, cell.ratio, cell.classes, cell.accuracy) for cell in cells]
    return np.array([_describe(point, informed) for point in points])


def _due(cells: Sequence[MeasuredCell]) -> Floats:
    return np.array([math.log(to_evidence(cell.agreement, cell.classes)) for cell in cells])


def _solve(rows: Floats, due: Floats) -> Floats:
    """Least squares; the shortest of several solutions, if the rows do not determine one."""
    found: Floats = np.linalg.lstsq(rows, due, rcond=None)[0].astype(np.float64)
    return found
