"""The agreements that our documents print, as one table: ``measured.csv``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("measured.csv")
SOFT, LABEL = "soft", "label"
Trunk = Literal["shared", "other"]
SHARED: Trunk = "shared"
OTHER: Trunk = "other"


@dataclass(frozen=True)
class MeasuredCell:
    """An agreement that a document prints.

    Attributes:
        study: the study, or the setting of it, whose table has it.
        victim: names the victim; cells of one victim are not independent.
        kind: how the victim was made: ``probed``, ``fine-tuned``, ``scratch``.
        trunk: ``shared`` if the thief has the victim's own trunk as it serves, else ``other``.
        width: number of the victim's features.
        classes: number of classes.
        answers: ``soft``, ``decimals-2``, ``top-3``, ``label``.
        attack: the attack.
        queries: queries asked.
        accuracy: the victim's accuracy.
        agreement: mean over seeds.
        interval: its 95 % interval as printed; None if none is.
        seeds: how many.
        use: ``fit``: a figure of a strong attacker; ``pair``: only for what less precise answers cost; ``none``: shown.
        why: why it is not fitted; "" if it is.
        document: the document, below the root of the repository.
        row: how the line begins that has it.
    """

    study: str
    victim: str
    kind: str
    trunk: Trunk
    width: int
    classes: int
    answers: str
    attack: str
    queries: int
    accuracy: float
    agreement: float
    interval: tuple[float, float] | None
    seeds: int
    use: str
    why: str
    document: str
    row: str

    @property
    def ratio(self) -> float:
        """Queries for each unknown of a class."""
        return self.queries / (self.width + 1)

    @property
    def situation(self) -> tuple[str, str, str, str, int]:
        """What cells share among which the strongest attacker is looked for."""
        return self.study, self.victim, self.trunk, self.answers, self.queries


@cache
def read_cells() -> Sequence[MeasuredCell]:
    """All rows of the table, in its order."""
    with FILE.open(newline="", encoding="utf-8") as lines:
        return [_parse(row) for row in csv.DictReader(lines)]


def _parse(row: dict[str, str]) -> MeasuredCell:
    trunk: Trunk = SHARED if row["trunk"] == SHARED else OTHER
    interval = (float(row["low"]), float(row["high"])) if row["low"] else None
    return MeasuredCell(
        row["study"], row["victim"], row["kind"], trunk, int(row["width"]), int(row["classes"]), row["answers"],
        row["attack"], int(row["queries"]), float(row["victim_accuracy"]), float(row["agreement"]), interval,
        int(row["seeds"]), row["use"], row["why"], row["document"], row["row"],
    )  # fmt: skip


def find_strongest(cells: Sequence[MeasuredCell]) -> list[MeasuredCell]:
    """Of each situation the cell of the strongest attacker, in the table's order."""
    best: dict[object, MeasuredCell] = {}
    for cell in cells:
        if cell.situation not in best or cell.agreement > best[cell.situation].agreement:
            best[cell.situation] = cell
    return list(best.values())
