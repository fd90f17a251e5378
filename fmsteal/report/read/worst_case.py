"""What a defense is worth against the strongest of the attackers that were tried. Imports no torch.

A defense is judged by the attacker that it holds up least. Of several attackers the one with the highest agreement is
there by chance too, so it is chosen on one half of the test images and its agreement is reported on the other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.report.read.interval import SHARE, SeedFigure
from fmsteal.report.read.predictions import list_sets, load_labels, open_predictions
from fmsteal.report.read.study import Cell, Figure, Study, StudyJob

DEFENSE, ATTACK, LOSS = "defense", "attack", "attack_loss"
ATTACKERS = (ATTACK, "thief")  # what an attacker chooses: these columns, and the options of each
UNDEFENDED = "none"
SPLIT = 0  # seed of the halves of the test images
L1, ACCURACY, KEPT = "honest/l1", "honest/accuracy", "honest/label_kept"
OF_UNDEFENDED = {L1: 0.0, KEPT: 1.0}  # what an API without a defense costs honest users


@dataclass(frozen=True)
class Tried:
    """An attacker against a defense, and its agreement on each half of the test images, seed by seed."""

    cell: Cell
    first: Sequence[float]
    second: Sequence[SeedFigure]


@dataclass(frozen=True)
class WorstCase:
    """A defense with its options, and the strongest attacker against it.

    Attributes:
        values: its values on the columns that are not the attacker's.
        attacker: the strongest attacker's values on the others, chosen on the first half of the test images.
        agreement: that attacker's agreement on the second half.
        naive: the same of the naive attacker; None if it was not tried.
        tried: how many attackers it was chosen from.
        honest: what the defense costs honest users: ``honest/l1``, ``honest/accuracy``, ``honest/label_kept``, as far
            as they were measured.
        dominated: whether another defense has an agreement, an L1 and an accuracy that are all as good, and one better.
    """

    values: Mapping[str, str]
    attacker: Mapping[str, str]
    agreement: Figure
    naive: Figure | None
    tried: int
    honest: Mapping[str, float]
    dominated: bool = False


def judge_defenses(study: Study, naive: str) -> tuple[list[WorstCase], int]:
    """The worst case of each defense; and how many cells are left out, whose seeds are not all finished and readable.

    Args:
        study: the study; attacks vary in it.
        naive: the attack of the attacker that does not know of the defense. Where losses vary too it has the soft one.

    Raises:
        FmstealError: all cells have the same attacker.
    """
    mine = [name for name in study.columns if is_attackers(name)]
    if not mine:
        raise FmstealError(
            "--worst-case compares attackers, and all cells have the same. Steal with others too, for example "
            "attack=knockoff,top1,solve."
        )
    found, left = [], 0
    for cells in study.groups(mine).values():
        tried = [each for cell in cells if (each := _try(cell)) is not None]
        left += len(cells) - len(tried)
        if tried:
            found.append(_judge(tried, mine, naive))
    return _mark_dominated(found), left


def is_attackers(column: str) -> bool:
    """Whether an attacker decides what a column holds."""
    return column.startswith(tuple(f"{name}{end}" for name in ATTACKERS for end in "._")) or column in ATTACKERS


def split_halves(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of as many test images, always the same: the indices of each; the first has the odd one."""
    order = np.random.default_rng(SPLIT).permutation(images)
    return order[: -(-images // 2)], order[-(-images // 2) :]


def _try(cell: Cell) -> Tried | None:
    """A cell's figures on both halves; None if a job is not finished, or its predictions cannot be used."""
    halves = [_agree_on_halves(job) for job in cell.done]
    if len(halves) < len(cell.jobs) or None in halves or not halves:
        return None
    known = [each for each in halves if each is not None]
    return Tried(cell, [first for first, _ in known], [second for _, second in known])


def _agree_on_halves(job: StudyJob) -> tuple[float, SeedFigure] | None:
    shares = _compare_halves(job.on_disk.folder)
    if shares is None:
        return None
    point, (first, second, images) = job.point("test/agreement"), shares
    return first, SeedFigure(second, images, point.test if point else None)


@functools.lru_cache(maxsize=4096)  # the table and the plot ask
def _compare_halves(folder: Path) -> tuple[float, float, int] | None:
    """A finished job's agreement on both halves, and the images of the second; None if it cannot be told."""
    try:
        with open_predictions(folder) as arrays:
            if "" not in list_sets(arrays):  # an encoder's
                return None
            victim, thief, _ = load_labels(arrays)
    except StoreError:  # `fmsteal verify` reports it
        return None
    first, second = split_halves(len(victim))
    same = victim == thief
    return (float(same[first].mean()), float(same[second].mean()), len(second)) if len(second) else None


def _judge(tried: Sequence[Tried], mine: Sequence[str], naive: str) -> WorstCase:
    worst, values = _strongest(tried), tried[0].cell.values
    unaware = [each for each in tried if _is_naive(each.cell, naive)]
    return WorstCase(
        values={name: value for name, value in values.items() if name not in mine},
        attacker={name: worst.cell.values[name] for name in mine},
        agreement=_figure(worst),
        naive=_figure(_strongest(unaware)) if unaware else None,
        tried=len(tried),
        honest=_cost(tried),
    )


def _strongest(tried: Sequence[Tried]) -> Tried:
    return max(tried, key=lambda each: float(np.mean(each.first)))


def _is_naive(cell: Cell, naive: str) -> bool:
    return cell.values.get(ATTACK, naive) == naive and cell.values.get(LOSS, "soft") == "soft"


def _figure(tried: Tried) -> Figure:
    return Figure.over(list(tried.second), len(tried.second), SHARE)


def _cost(tried: Sequence[Tried]) -> dict[str, float]:
    """What honest users pay, averaged over all jobs of a defense that measured it."""
    names = (L1, ACCURACY, KEPT)
    known = {name: [f for each in tried for f in each.cell.by_seed(name).values()] for name in names}
    found = {name: float(np.mean(figures)) for name, figures in known.items() if figures}
    if tried[0].cell.values.get(DEFENSE) == UNDEFENDED:
        accuracy = [f for each in tried for f in each.cell.by_seed("test/victim_accuracy").values()]
        found |= OF_UNDEFENDED | ({ACCURACY: float(np.mean(accuracy))} if accuracy else {})
    return found


def _mark_dominated(found: Sequence[WorstCase]) -> list[WorstCase]:
    def is_beside(one: WorstCase, other: WorstCase) -> bool:
        """Whether they defend the same victim against the same budget."""
        return all(one.values[name] == other.values[name] for name in one.values if not name.startswith(DEFENSE))

    return [
        replace(one, dominated=any(_is_better(other, one) for other in found if is_beside(one, other))) for one in found
    ]


def _is_better(one: WorstCase, other: WorstCase) -> bool:
    """Whether a defense is as good as another in all that was measured of both, and better in something."""
    if not all(name in each.honest for name in (L1, ACCURACY) for each in (one, other)):
        return False
    mine, theirs = ((-each.agreement.mean, -each.honest[L1], each.honest[ACCURACY]) for each in (one, other))
    return mine != theirs and all(m >= t for m, t in zip(mine, theirs, strict=True))
