"""What an audit's thefts reached, read from their results. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.interval import SHARE, Interval
from fmsteal.report.read.study import Figure, StudyJob

LEVELS = (0.5, 0.8, 0.9, 0.95)  # of agreement: what a thief must pass
IMAGES = "the test images"
DOWNSTREAM = "the downstream test images, by the same head on both"  # of encoders
FLAGS, HONEST = "cost/flags/", "honest/"
SPENT = (  # sums over an audit's results
    "cost/queries", "cost/usd", "cost/queries_billed", "cost/usd_billed", "cost/evaluation_queries",
    "cost/preparation_queries", "cost/unconfirmed", "cost/seconds",
)  # fmt: skip


@dataclass(frozen=True)
class BudgetPoint:
    """What an attacker reached with a budget.

    Attributes:
        budget: queries that it might ask; 0 of one that asks nothing.
        agreement: mean over seeds.
        queries: what it asked, mean over seeds.
        usd: what it paid, mean over seeds.
        interval: 95 % interval of the agreement: over seeds and test images, of a single seed over the images alone.
        seeds: how many seeds have a result.
        of: how many were asked for.
    """

    budget: int
    agreement: float
    queries: float
    usd: float
    interval: Interval | None = None
    seeds: int = 1
    of: int = 1


@dataclass(frozen=True)
class Curve:
    """What an attacker reached against a defense, budgets ascending."""

    attack: str
    defense: str
    points: Sequence[BudgetPoint]

    @property
    def asks(self) -> bool:
        """Whether the attacker asks anything."""
        return any(point.budget for point in self.points)

    @property
    def best(self) -> BudgetPoint | None:
        """The point of the highest agreement; None without a result."""
        return max(self.points, key=lambda point: point.agreement, default=None)

    def at(self, budget: int) -> BudgetPoint | None:
        """The point of a budget."""
        return next((point for point in self.points if point.budget == budget), None)

    def first_over(self, level: float) -> BudgetPoint | None:
        """The smallest budget that was tried whose agreement passes a level. Nothing is interpolated."""
        return next((point for point in self.points if point.agreement >= level), None)


@dataclass(frozen=True)
class Guarding:
    """What a defense saw of the thieves, and what it costs an honest user.

    Attributes:
        defense: its label.
        flagged: for each detector, the share of the attackers' queries that it flagged.
        refused: the share of their queries that it refused.
        delay: seconds that it made an attacker wait, mean over thefts.
        honest: an honest client's figures (``honest/accuracy`` as ``accuracy``, ...), mean over thefts; of encoders
            also ``target_accuracy``, downstream without the defense.
    """

    defense: str
    flagged: Mapping[str, float] = field(default_factory=dict)
    refused: float = 0.0
    delay: float = 0.0
    honest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that an audit found.

    Attributes:
        curves: each attacker against each defense, in the order of the shelf.
        guards: each defense.
        defenses: labels of what stood in front of the victim, the plain victim's first.
        seeds: how many seeds were asked for.
        asked: how many thefts were asked for.
        done: how many of them have a result.
        spent: sums of costs over all results.
        constant: agreement of a thief that gives the most frequent class for every image; None if unknown.
        unit: what agreement is a share of, in words.
    """

    curves: Sequence[Curve]
    guards: Sequence[Guarding]
    defenses: Sequence[str]
    seeds: int = 1
    asked: int = 0
    done: int = 0
    spent: Mapping[str, float] = field(default_factory=dict)
    constant: float | None = None
    unit: str = IMAGES

    def curves_of(self, defense: str) -> list[Curve]:
        """The attackers that ask, against a defense, as far as they have results."""
        return [curve for curve in self.curves if curve.defense == defense and curve.asks]

    @property
    def free(self) -> list[Curve]:
        """The attackers that ask nothing."""
        return [curve for curve in self.curves if curve.points and not curve.asks]


@dataclass(frozen=True)
class TriedTheft:
    """A job of an audit as it is on the disk, with the labels of its attacker and defense."""

    attack: str
    defense: str
    budget: int
    job: StudyJob


def read_evidence(
    tried: Sequence[TriedTheft], seeds: int, constant: float | None = None, unit: str = IMAGES
) -> Evidence:
    """Read what the thefts of an audit reached.

    Args:
        tried: its thefts, with or without a result.
        seeds: how many seeds were asked for.
        constant: agreement of a thief that answers the most frequent class.
        unit: what agreement is a share of.
    """
    groups: dict[tuple[str, str], dict[int, list[TriedTheft]]] = {}
    for theft in tried:
        groups.setdefault((theft.attack, theft.defense), {}).setdefault(theft.budget, []).append(theft)
    curves = [Curve(attack, defense, _read_points(rungs, seeds)) for (attack, defense), rungs in groups.items()]
    defenses = list(dict.fromkeys(theft.defense for theft in tried))
    done = [theft for theft in tried if theft.job.on_disk.result is not None]
    guards = [_read_guard(name, [theft for theft in done if theft.defense == name]) for name in defenses[1:]]
    spent = {name: _sum(theft.job.figure(name) for theft in done) for name in SPENT}
    return Evidence(curves, guards, defenses, seeds, len(tried), len(done), spent, constant, unit)


def _read_points(rungs: Mapping[int, Sequence[TriedTheft]], seeds: int) -> list[BudgetPoint]:
    points = (_read_point(budget, rungs[budget], seeds) for budget in sorted(rungs))
    return [point for point in points if point is not None]


def _read_point(budget: int, thefts: Sequence[TriedTheft], seeds: int) -> BudgetPoint | None:
    jobs = [theft.job for theft in thefts if theft.job.figure(HEADLINE) is not None]
    shares = [point for job in jobs if (point := job.point(HEADLINE)) is not None]
    if not shares:
        return None
    over = Figure.over(shares, seeds, SHARE)
    interval = jobs[0].interval(HEADLINE) if len(jobs) == 1 else over.interval
    queries, usd = (_sum(job.figure(name) for job in jobs) / len(jobs) for name in ("cost/queries", "cost/usd"))
    return BudgetPoint(budget, over.mean, queries, usd, interval, over.n, over.of)


def _read_guard(defense: str, thefts: Sequence[TriedTheft]) -> Guarding:
    asked = _sum(theft.job.figure("cost/queries") for theft in thefts)
    names = {name for theft in thefts for part in ("cost", "metrics") for name in _figures(theft, part)}
    flags = sorted(name for name in names if name.startswith(FLAGS))
    refused = _sum(theft.job.figure("cost/refused") for theft in thefts)
    honest = {
        name: _mean(theft.job.figure(name) for theft in thefts) for name in sorted(names) if name.startswith(HONEST)
    }
    plain = [value for theft in thefts if (value := theft.job.figure("test/target_accuracy")) is not None]
    if plain and "honest/downstream_accuracy" in honest:
        honest["honest/target_accuracy"] = _mean(plain)
    return Guarding(
        defense,
        {name.removeprefix(FLAGS): _sum(t.job.figure(name) for t in thefts) / max(asked, 1.0) for name in flags},
        refused / max(asked + refused, 1.0),
        _mean(theft.job.figure("cost/delay_seconds") or 0.0 for theft in thefts) if thefts else 0.0,
        {name.removeprefix(HONEST): value for name, value in honest.items()},
    )


def _figures(theft: TriedTheft, part: str) -> Mapping[str, object]:
    found = (theft.job.on_disk.result or {}).get(part)
    return found if isinstance(found, dict) else {}


def _sum(values: Iterable[float | None]) -> float:
    return math.fsum(value for value in values if value is not None)


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known)
