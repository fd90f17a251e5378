"""Whether thieves of one victim are alike: the agreement of a cell's thieves with each other. Imports no torch.

Two thieves may both agree with their victim on 90 % of the images, and with each other on 95 % or on 80 %: in the first
case they found the same copy, in the second two of many (*predictive multiplicity* in the literature).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fmsteal.base.errors import StoreError
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.predictions import Array, list_sets, open_predictions
from fmsteal.report.read.study import Cell, Study, StudyJob
from fmsteal.report.show.plain import Plain
from fmsteal.report.show.wording import format_number

VICTIMS, IMAGES, KEPT = "attack another victim each", "are judged on other test images each", "keep no predictions"


@dataclass(frozen=True)
class Likeness:
    """How alike the thieves of a cell are.

    Attributes:
        cell: the cell.
        agreement: the share of test images to which two thieves give the same answer, averaged over pairs.
        pairs: how many pairs attack the same victim, are judged on the same images, and keep predictions.
    """

    cell: Cell
    agreement: float
    pairs: int


def compare_thieves(cell: Cell) -> Likeness | str | None:
    """How alike a cell's thieves are, or why that cannot be said; None with fewer than two finished jobs."""
    jobs = cell.done
    if len(jobs) < 2:
        return None
    pairs = [(a, b) for a, b in combinations(jobs, 2) if _share(_victim(a), _victim(b))]
    if not pairs:
        return VICTIMS
    pairs = [(a, b) for a, b in pairs if _share(_images(a), _images(b))]
    if not pairs:
        return IMAGES
    answers = {job.on_disk.key: _answers(job) for pair in pairs for job in pair}
    both = [(answers[a.on_disk.key], answers[b.on_disk.key]) for a, b in pairs]
    shares = [share for a, b in both if (share := _agree(a, b)) is not None]
    return Likeness(cell, float(np.mean(shares)), len(shares)) if shares else KEPT


def tabulate_multiplicity(study: Study) -> tuple[Plain | None, list[str]]:
    """A table of the cells whose thieves can be compared, None if there are none; and why others cannot."""
    found = [(cell, compare_thieves(cell)) for cell in study.cells]
    alike = [each for _, each in found if isinstance(each, Likeness)]
    reasons = Counter(each for _, each in found if isinstance(each, str))
    why = [
        f"No thief-to-thief agreement of {count} of {len(study.cells)} cells: their thieves {reason}."
        for reason, count in reasons.items()
    ]
    if not alike:
        return None, why
    rows = []
    for each in alike:
        figure = each.cell.figure(HEADLINE)
        with_victim = format_number(figure.mean, HEADLINE) if figure else ""
        texts = [format_number(each.agreement, HEADLINE), with_victim, str(each.pairs)]
        rows.append([*(each.cell.values[name] for name in study.columns), *texts])
    notes = [
        "Thief to thief: the share of test images to which two thieves of a cell, which attacked the same victim with "
        "other seeds, give one answer; mean over pairs, no interval.",
        *why,
    ]
    columns = ("thief to thief", "thief to victim", "pairs")
    return Plain("multiplicity", "agreement of thieves with each other", study.columns, columns, rows, notes), why


def _share(one: str | None, other: str | None) -> bool:
    """Whether two values are known and equal."""
    return bool(one) and one == other


def _agree(one: Array | None, other: Array | None) -> float | None:
    """The share of images to which two thieves give the same answer; None if answers are missing or do not fit."""
    if one is None or other is None or not len(one) == len(other) > 0:
        return None
    return float((one == other).mean())


def _victim(job: StudyJob) -> str | None:
    found = (job.on_disk.result or {}).get("victim")
    return found if isinstance(found, str) else None


def _images(job: StudyJob) -> str | None:
    point = job.point(HEADLINE)
    return point.test if point else None


def _answers(job: StudyJob) -> Array | None:
    """The thief's answers to the task's test images ``(n,)``; None if none are kept, or they cannot be read."""
    try:
        with open_predictions(job.on_disk.folder) as arrays:
            return arrays["thief"] if "" in list_sets(arrays) and arrays["thief"].ndim == 1 else None
    except StoreError:  # `fmsteal verify` reports it
        return None
