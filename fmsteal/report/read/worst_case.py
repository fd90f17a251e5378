"""What a defense is worth against the strongest of the attackers that were tried. Imports no torch.

A defense is judged by the attacker that it holds up least. Of several attackers the one with the highest agreement is
there by chance too, so it is chosen on one half of the test images and its agreement is reported on the other. For an
encoder it is the agreement of heads, and the halves are those of each downstream set's test images.
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
KEPT = "honest/label_kept"


@dataclass(frozen=True)
class Price:
    """The figures of what a defense costs honest users.

    Attributes:
        distance: how far an answer is moved.
        accuracy: what is left of the accuracy.
        undefended: the accuracy without a defense, which the theft's own measurement has.
    """

    distance: str
    accuracy: str
    undefended: str

    @property
    def names(self) -> tuple[str, ...]:
        """What is averaged over all jobs of a defense."""
        return (self.distance, self.accuracy, KEPT) if self == OF_CLASSIFIERS else (self.distance, self.accuracy)


OF_CLASSIFIERS = Price("honest/l1", "honest/accuracy", "test/victim_accuracy")
OF_ENCODERS = Price("honest/l2", "honest/downstream_accuracy", "test/target_accuracy")
UNTOUCHED = {OF_CLASSIFIERS.distance: 0.0, OF_ENCODERS.distance: 0.0, KEPT: 1.0}  # by an API without a defense
AGREE = {OF_CLASSIFIERS: "agreement with the model that serves", OF_ENCODERS: "agreement of heads with the target's"}


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
        price: the names of what the defense costs honest users.
        honest: these figures, as far as they were measured.
        dominated: whether another defense has an agreement, a distance and an accuracy that are all as good, and one
            better.
    """

    values: Mapping[str, str]
    attacker: Mapping[str, str]
    agreement: Figure
    naive: Figure | None
    tried: int
    price: Price
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
def _compare_halves(folder: Path) -> tuple[float, float, float] | None:
    """A finished job's agreement on both halves, and the images of the second; None if it cannot be told.

    Of an encoder it is the mean over the downstream sets, by the headline head, and as many images as have the variance
    of the mean of independent shares.
    """
    try:
        with open_predictions(folder) as arrays:
            known = list_sets(arrays)
            chosen = [""] if "" in known else [name for name in known if "/" not in name]
            pairs = [load_labels(arrays, known[name])[:2] for name in chosen]
    except StoreError:  # `fmsteal verify` reports it
        return None
    same = [victim == thief for victim, thief in pairs]
    if not same or min(map(len, same)) < 2:
        return None
    halves = [[each[half] for half in split_halves(len(each))] for each in same]
    first, second = (float(np.mean([parts[half].mean() for parts in halves])) for half in (0, 1))
    return first, second, len(same) ** 2 / sum(1 / len(parts[1]) for parts in halves)


def _judge(tried: Sequence[Tried], mine: Sequence[str], naive: str) -> WorstCase:
    worst, values = _strongest(tried), tried[0].cell.values
    price, unaware = _price(tried), [each for each in tried if _is_naive(each.cell, naive)]
    return WorstCase(
        values={name: value for name, value in values.items() if name not in mine},
        attacker={name: worst.cell.values[name] for name in mine},
        agreement=_figure(worst),
        naive=_figure(_strongest(unaware)) if unaware else None,
        tried=len(tried),
        price=price,
        honest=_cost(tried, price),
    )


def _strongest(tried: Sequence[Tried]) -> Tried:
    return max(tried, key=lambda each: float(np.mean(each.first)))


def _is_naive(cell: Cell, naive: str) -> bool:
    return cell.values.get(ATTACK, naive) == naive and cell.values.get(LOSS, "soft") == "soft"


def _figure(tried: Tried) -> Figure:
    return Figure.over(list(tried.second), len(tried.second), SHARE)


def _price(tried: Sequence[Tried]) -> Price:
    """What honest users of this API pay: an encoder's has a target's accuracy."""
    return OF_ENCODERS if any(each.cell.by_seed(OF_ENCODERS.undefended) for each in tried) else OF_CLASSIFIERS


def _cost(tried: Sequence[Tried], price: Price) -> dict[str, float]:
    """What honest users pay, averaged over all jobs of a defense that measured it."""

    def average(name: str) -> dict[str, float]:
        figures = [figure for each in tried for figure in each.cell.by_seed(name).values()]
        return {name: float(np.mean(figures))} if figures else {}

    found = {name: value for each in price.names for name, value in average(each).items()}
    if tried[0].cell.values.get(DEFENSE) == UNDEFENDED:
        found |= {name: value for name, value in UNTOUCHED.items() if name in price.names}
        if accuracy := average(price.undefended):
            found[price.accuracy] = accuracy[price.undefended]
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
    distance, accuracy = one.price.distance, one.price.accuracy
    if not all(name in each.honest for name in (distance, accuracy) for each in (one, other)):
        return False
    mine, theirs = ((-each.agreement.mean, -each.honest[distance], each.honest[accuracy]) for each in (one, other))
    return mine != theirs and all(m >= t for m, t in zip(mine, theirs, strict=True))
