"""What is expected of thefts from a victim: when its head is solved for, agreement, dollars, and what is not known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from fmsteal.risk.coarse import find_shift
from fmsteal.risk.exact import count_exact, count_unknowns
from fmsteal.risk.measured import OTHER, SHARED, SOFT, MeasuredCell, Trunk, read_cells
from fmsteal.risk.measured_range import MeasuredRange
from fmsteal.risk.model import ExpectedAgreement, RiskModel, RiskPoint, choose_fitted, fit, is_exact
from fmsteal.risk.profile import VictimProfile

LADDER = (100, 500, 1000, 5000, 20000)  # queries, unless given
DOCUMENT = "fmsteal/defenses/README.md"


@dataclass(frozen=True)
class BudgetEstimate:
    """What is expected at a budget.

    Attributes:
        queries: the budget.
        ratio: queries for each unknown of a class; None if the width is not known.
        expected: agreement; None if no number can be given.
        low: lower end of the 90 % prediction interval; None likewise.
        high: its upper end.
        usd: the price.
        exact: whether `fmsteal.attacks.solve` finds the victim's own head.
        outside: in what respects this is outside of what was measured.
    """

    queries: int
    ratio: float | None
    expected: float | None
    low: float | None
    high: float | None
    usd: float
    exact: bool = False
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class RiskEstimate:
    """What can be said of a victim.

    Attributes:
        profile: what is known of it.
        unknowns: unknowns of each class, if the width is known.
        exact_from: queries at which `fmsteal.attacks.solve` is exact; None if never, or not known.
        exact_says: the same in words.
        budgets: the ladder.
        says: what else is to be known, in sentences.
    """

    profile: VictimProfile
    unknowns: int | None
    exact_from: int | None
    exact_says: str
    budgets: Sequence[BudgetEstimate]
    says: Sequence[str]

    def as_document(self) -> dict[str, object]:
        """What is written as JSON."""
        price = self.profile.price
        exact_usd = None if self.exact_from is None else self.exact_from * price / 1000
        victim = {**asdict(self.profile.known), "name": self.profile.name, "answers": str(self.profile.precision)}
        return {
            "schema": 1,
            "victim": victim,
            "exact": {"unknowns": self.unknowns, "queries": self.exact_from, "usd": exact_usd, "says": self.exact_says},
            "usd_per_1000": price,
            "interval": "90 % prediction interval",
            "budgets": [asdict(budget) for budget in self.budgets],
            "says": list(self.says),
        }


def estimate(profile: VictimProfile, ladder: Sequence[int] = LADDER) -> RiskEstimate:
    """What is expected of thefts from a victim at a ladder of budgets."""
    known = profile.known
    exact_from, exact_says = find_exact(profile)
    budgets = [_estimate(profile, queries, exact_from) for queries in ladder]
    unknowns = None if known.width is None else count_unknowns(known.width)
    return RiskEstimate(profile, unknowns, exact_from, exact_says, budgets, tuple(_say(profile)))


def find_exact(profile: VictimProfile) -> tuple[int | None, str]:
    """From how many queries on a head can be solved for exactly, and that in words; None if never, or not known."""
    known, precision = profile.known, profile.precision
    if SHARED not in profile.trunks:
        why = f"it is {known.kind}" if known.kind != "probed" else "nobody else has its trunk"
        return None, f"never: {why}, so its head stands on features that a thief does not have"
    if precision.kind in ("label", "decimals"):
        return None, f"never: {precision} give no equations of the head"
    if precision.kind == "perturbed":
        return None, f"never: answers {precision} are no equations of the head"
    if known.width is None or known.classes is None:
        missing = " and ".join(f"--{name}" for name in ("width", "classes") if getattr(known, name) is None)
        return None, f"not known without {missing}; with all probabilities about as many queries as features"
    proviso = ", if it is a linear head on a trunk that anybody can have" if len(profile.trunks) > 1 else ""
    if precision.kind == "top":
        equations = count_exact(known.width, known.classes, precision.number)
        return (
            None,
            f"not before {equations:,} queries, and not surely then: {precision} may say the same of many images",
        )
    found = count_exact(known.width, known.classes)
    return found, f"from {found:,} queries on ({count_unknowns(known.width):,} unknowns for each class){proviso}"


def _estimate(profile: VictimProfile, queries: int, exact_from: int | None) -> BudgetEstimate:
    known = profile.known
    ratio = None if known.width is None else queries / count_unknowns(known.width)
    usd = queries * profile.price / 1000
    exact = exact_from is not None and queries >= exact_from and profile.trunks == (SHARED,)
    if refused := _refuse(profile):
        return BudgetEstimate(queries, ratio, None, None, None, usd, exact, (refused,))
    if exact:
        low = min(cell.interval[0] for cell in read_cells() if is_exact(cell) and cell.interval)
        return BudgetEstimate(queries, ratio, 1.0, low, 1.0, usd, exact)
    found = [_expect(profile, trunk, width, queries) for trunk, width in _list_cases(profile)]
    expected = [one for one, _ in found]
    outside = tuple(dict.fromkeys(itertools.chain.from_iterable(words for _, words in found)))
    middle = expected[0].agreement if len(expected) == 1 else None
    low, high = min(one.low for one in expected), max(one.high for one in expected)
    if _may_be_solved(profile, queries):
        high = 1.0
    return BudgetEstimate(queries, ratio, middle, low, high, usd, outside=outside)


def _may_be_solved(profile: VictimProfile, queries: int) -> bool:
    """Whether a thief may have the trunk, and enough equations, as far as both are known."""
    known, precision = profile.known, profile.precision
    if SHARED not in profile.trunks or precision.kind not in (SOFT, "top"):
        return False
    if known.width is None or known.classes is None:
        return True
    return queries >= count_exact(known.width, known.classes, precision.number or None)


def _list_cases(profile: VictimProfile) -> list[tuple[Trunk, int]]:
    """What a victim may be, as far as it is not known: its trunk shared or not, the extremes of the measured widths."""
    if profile.known.width is not None:
        return [(trunk, profile.known.width) for trunk in profile.trunks]
    return [(trunk, width) for trunk in profile.trunks for width in map(int, _range(trunk).widths)]


def _expect(
    profile: VictimProfile, trunk: Trunk, width: int, queries: int
) -> tuple[ExpectedAgreement, tuple[str, ...]]:
    """The expectation of one case, and in what respects it is outside of what was measured.

    More queries are no worse for a thief: the interval goes no lower than at the largest budget that was measured, and
    no higher than at the smallest.
    """
    within = _range(trunk).clamp(queries, count_unknowns(width))
    (found, outside), (edge, _) = (_predict(profile, trunk, width, asked) for asked in (queries, within))
    low = max(found.low, edge.low) if queries > within else found.low
    high = min(found.high, edge.high) if queries < within else found.high
    return ExpectedAgreement(found.agreement, low, high), outside


def _predict(
    profile: VictimProfile, trunk: Trunk, width: int, queries: int
) -> tuple[ExpectedAgreement, tuple[str, ...]]:
    known = profile.known
    assert known.classes is not None
    model = _model(known.accuracy is not None)
    point = RiskPoint(trunk, queries / count_unknowns(width), known.classes, known.accuracy)
    distance, outside = _range(trunk).judge(point, width, queries)
    plain = model.predict(point, wider=1 + distance)
    if profile.precision.kind == SOFT:
        return plain, outside
    coarse = model.predict(point, find_shift(read_cells(), profile.precision, trunk).size, 1 + distance)
    return ExpectedAgreement(coarse.agreement, coarse.low, plain.high), outside


@cache
def _range(trunk: Trunk) -> MeasuredRange:
    return MeasuredRange.of([cell for cell in _cells() if cell.trunk == trunk])


@cache
def _cells() -> Sequence[MeasuredCell]:
    return choose_fitted(read_cells())


@cache
def _model(informed: bool) -> RiskModel:
    return fit(_cells(), informed)


def _refuse(profile: VictimProfile) -> str:
    """Why no number can be given; "" if one can."""
    most = max(cell.classes for cell in _cells())
    if profile.known.classes is None:
        return "the number of classes is not known (--classes N)"
    if profile.known.classes > most:
        return f"no victim of more than {most} classes was measured"
    if profile.precision.kind == "perturbed":
        return f"answers {profile.precision} are not in the model: {DOCUMENT} has what was measured"
    return ""


def _say(profile: VictimProfile) -> Iterator[str]:
    """What a reader has to know besides the figures."""
    yield from profile.assumed
    known = profile.known
    missing = [f"--{name}" for name in ("kind", "width", "classes", "accuracy") if getattr(known, name) is None]
    if OTHER in profile.trunks and SHARED in profile.trunks:
        yield "Whether a thief can have its trunk is not known: the interval covers both."
    if profile.precision.kind in ("decimals", "top", "label"):
        shifts = [find_shift(read_cells(), profile.precision, trunk) for trunk in profile.trunks]
        few = min(shift.pairs for shift in shifts)
        yield (
            f"What {profile.precision} cost a thief was measured on one victim, {few} pair{'s'[: few > 1]} of cells; "
            "the interval reaches up to what all probabilities would give."
        )
        yield from dict.fromkeys(itertools.chain.from_iterable(shift.says for shift in shifts))
    if missing:
        wide = " Without its accuracy the intervals are much wider." if known.accuracy is None else ""
        yield f"Not known, and worth saying: {', '.join(missing)}.{wide}"
