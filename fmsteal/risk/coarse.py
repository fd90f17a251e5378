"""What less precise answers cost a thief: the mean change of log z between pairs of measured cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fmsteal.risk.measured import LABEL, SHARED, SOFT, MeasuredCell, Trunk, find_strongest
from fmsteal.risk.model import to_evidence
from fmsteal.risk.precision import Precision

DECIMALS, TOP = 2, 3  # what was measured of rounding, and of the largest probabilities


@dataclass(frozen=True)
class Shift:
    """What less precise answers cost.

    Attributes:
        size: change of log z.
        pairs: of how many pairs of cells it is the mean.
        says: in what respects other answers were measured than these, in words.
    """

    size: float
    pairs: int
    says: tuple[str, ...] = ()


def find_shift(cells: Sequence[MeasuredCell], precision: Precision, trunk: Trunk) -> Shift:
    """The cost of answers that are few decimals, few entries or labels: of the nearest that were measured.

    Where these exact answers were not measured, it is that of measured ones that tell less, so that a thief may do
    better; without a pair on that kind of trunk, that on a shared one.
    """
    name = _choose_measured(precision)
    says = [] if _is_named(precision, name) else [f"The nearest answers that were measured, and tell less: {name}."]
    found = _measure(cells, name, trunk)
    if found is None:
        found = _measure(cells, name, SHARED)
        says.append(f"That was measured with a shared trunk alone ({name}).")
    assert found is not None
    return Shift(*found, tuple(says))


def _choose_measured(precision: Precision) -> str:
    if precision.kind == "decimals" and precision.number >= DECIMALS:
        return f"decimals-{DECIMALS}"
    if precision.kind == "top" and precision.number >= TOP:
        return f"top-{TOP}"
    return LABEL


def _is_named(precision: Precision, name: str) -> bool:
    return name == (LABEL if precision.kind == LABEL else f"{precision.kind}-{precision.number}")


def _measure(cells: Sequence[MeasuredCell], answers: str, trunk: Trunk) -> tuple[float, int] | None:
    """The mean change of log z against soft answers, and of how many pairs; None if there is no pair.

    A pair is of one study, victim, trunk and budget, each cell that of its strongest attacker.
    """
    found = find_strongest([cell for cell in cells if cell.use in ("fit", "pair") and cell.trunk == trunk])
    soft = {(cell.study, cell.victim, cell.queries): cell for cell in found if cell.answers == SOFT}
    moves = []
    for cell in found:
        plain = soft.get((cell.study, cell.victim, cell.queries))
        if cell.answers == answers and plain is not None:
            coarse, fine = (to_evidence(one.agreement, one.classes) for one in (cell, plain))
            moves.append(math.log(coarse / fine))
    return (sum(moves) / len(moves), len(moves)) if moves else None
