"""What an audit's evidence means, in words: a pure function of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from fmsteal.audit.evidence import LEVELS, BudgetPoint, Curve, Evidence, Guarding
from fmsteal.audit.shelf import UNDEFENDED

COPIED, CLOSE, PARTLY, HARDLY, NOT_COPIED, UNKNOWN = GRADES = (
    "copied", "nearly copied", "partly copied", "hardly copied", "not copied", "unknown",
)  # fmt: skip
BY_LEVEL = dict(zip((0.95, 0.9, 0.8, 0.5), GRADES, strict=False))
SAID = {
    COPIED: "This model can be copied through its API",
    CLOSE: "This model can be copied closely through its API",
    PARTLY: "This model can be copied in part through its API",
    HARDLY: "Copies of this model are poor, as far as these attackers got",
}
LITTLE, MUCH = 0.02, 0.1  # differences of agreement that count as none, and as large
FEW = 3  # seeds below which chance is not averaged out


@dataclass(frozen=True)
class AuditVerdict:
    """An audit's verdict.

    Attributes:
        grade: one of `GRADES`: the highest level of agreement that was passed without a defense.
        headline: it in a sentence.
        sentences: what else the evidence says, the most important first.
        defenses: a sentence or more for each defense, by its label.
    """

    grade: str
    headline: str
    sentences: tuple[str, ...]
    defenses: dict[str, str]


def judge(evidence: Evidence) -> AuditVerdict:
    """The verdict on the evidence of an audit."""
    curves = [curve for curve in evidence.curves_of(UNDEFENDED) if curve.points]
    defenses = {guard.defense: _judge_defense(evidence, guard) for guard in evidence.guards}
    if not curves:
        headline = "No theft from the undefended model has a result yet, so nothing can be said of it."
        return AuditVerdict(UNKNOWN, headline, tuple(_say_missing(evidence)), defenses)
    curve, best = _find_best(curves)
    passed = [level for level in LEVELS if best.agreement >= level]
    grade = BY_LEVEL[passed[-1]] if passed else NOT_COPIED
    return AuditVerdict(
        grade,
        _say_headline(curves, curve, best, grade, passed, evidence.unit),
        (*_say_free(evidence, best), *_say_trend(curve), *_say_chance(evidence, best), *_say_missing(evidence)),
        defenses,
    )


def _find_best(curves: list[Curve]) -> tuple[Curve, BudgetPoint]:
    """The attacker and the budget of the highest agreement; of equal ones the cheapest."""
    points = [(curve, point) for curve in curves for point in curve.points if point.budget]
    return max(points, key=lambda found: (found[1].agreement, -found[1].budget))


def _say_headline(
    curves: list[Curve], best: Curve, top: BudgetPoint, grade: str, passed: list[float], unit: str
) -> str:
    if grade == NOT_COPIED:
        return (
            f"None of these attackers copied this model: the best, {best.attack}, agrees with it on "
            f"{percent(top.agreement)} of {unit} after {count(top.queries)} ({dollars(top.usd)})."
        )
    found = [(point, curve) for curve in curves if (point := curve.first_over(passed[-1])) is not None]
    point, curve = min(found, key=lambda each: (each[0].queries, -each[0].agreement))
    said = (
        f"{SAID[grade]}: {curve.attack} agrees with it on {percent(point.agreement)} of the test images after "
        f"{count(point.queries)} ({dollars(point.usd)})"
    )
    if top.agreement - point.agreement > LITTLE:
        return f"{said}, and {best.attack} on {percent(top.agreement)} after {count(top.queries)}."
    return f"{said}."


def _say_free(evidence: Evidence, best: BudgetPoint) -> Iterator[str]:
    """What an attacker reaches who asks nothing."""
    points = [(curve, point) for curve in evidence.free if (point := curve.best) is not None]
    if points:
        curve, point = max(points, key=lambda found: found[1].agreement)
        reached = f"Without a single query an attacker agrees with it on {percent(point.agreement)} ({curve.attack})"
        if best.agreement - point.agreement <= LITTLE:
            yield f"{reached}: the API adds little to what is public, and defending it would change little."
        else:
            gain = f"{100 * (best.agreement - point.agreement):.0f} points"
            yield f"{reached}: the other {gain} come from the API's answers."
    else:
        yield "What an attacker reaches without a query was not measured, so how much the API gives away is not known."
    if evidence.constant is not None:
        yield f"A constant answer agrees with it on {percent(evidence.constant)}."


def _say_trend(curve: Curve) -> Iterator[str]:
    """Whether more queries would give more."""
    points = [point for point in curve.points if point.budget]
    steps = [later.agreement - earlier.agreement for earlier, later in pairwise(points)]
    if steps and steps[-1] > LITTLE and points[-1].agreement < 1 - LITTLE:
        yield (
            f"Agreement of {curve.attack} was still rising at the largest budget tried ({count(points[-1].budget)}): "
            "expect more queries to give a better copy."
        )


def _say_chance(evidence: Evidence, best: BudgetPoint) -> Iterator[str]:
    """How sure the figures are."""
    if best.interval is not None:
        low, high = best.interval
        of = f"{best.seeds} seeds and the test images" if best.seeds > 1 else "the test images alone"
        yield f"The best figure's 95 % interval is {percent(low)} to {percent(high)}, over {of}."
    if evidence.seeds < FEW:
        one = "a single run" if evidence.seeds == 1 else f"{evidence.seeds} runs"
        yield f"Each theft is {one}: another seed gives somewhat other figures (--seeds {FEW} averages over them)."


def _say_missing(evidence: Evidence) -> Iterator[str]:
    if evidence.done < evidence.asked:
        yield (
            f"{evidence.asked - evidence.done} of {evidence.asked} thefts have no result, so that this verdict may be "
            "too mild; see what was not tried."
        )


def _judge_defense(evidence: Evidence, guard: Guarding) -> str:
    """What a defense does to the strongest attacker, what it sees, and what it costs honest users."""
    plain = [curve for curve in evidence.curves_of(UNDEFENDED) if curve.points]
    behind = [curve for curve in evidence.curves_of(guard.defense) if curve.points]
    budgets = {p.budget for curve in plain for p in curve.points} & {p.budget for c in behind for p in c.points}
    if not budgets:
        return "No theft can be compared with and without it: there are too few results."
    budget = max(budgets)
    (_, before), (curve, after) = (_find_best_at(curves, budget) for curves in (plain, behind))
    lost = before.agreement - after.agreement
    figures = f"{percent(after.agreement)} in place of {percent(before.agreement)} after {count(budget)}"
    if lost <= LITTLE:
        effect = f"It does not hold up the strongest attacker ({curve.attack}: {figures})."
    elif lost < MUCH:
        effect = f"It holds the strongest attacker up a little ({curve.attack}: {figures})."
    else:
        effect = f"It holds the attackers up ({curve.attack}, the strongest, reaches {figures})."
    return " ".join([effect, *_say_seen(guard), *_say_honest(guard)])


def _find_best_at(curves: list[Curve], budget: int) -> tuple[Curve, BudgetPoint]:
    found = [(curve, point) for curve in curves if (point := curve.at(budget)) is not None]
    return max(found, key=lambda each: each[1].agreement)


def _say_seen(guard: Guarding) -> Iterator[str]:
    """What detectors saw, beside what they see of an honest user."""
    for name, share in guard.flagged.items():
        alarms = guard.honest.get(f"flags/{name}")
        beside = "" if alarms is None else f", and {percent(alarms)} of an honest user's"
        yield f"The detector {name} flagged {percent(share)} of the attackers' queries{beside}."
    if guard.refused:
        yield f"{percent(guard.refused)} of the attackers' queries were refused."
    if guard.delay:
        yield f"A theft was delayed by {guard.delay:,.0f} s."


def _say_honest(guard: Guarding) -> Iterator[str]:
    """What honest users lose."""
    honest = guard.honest
    if not honest:
        yield "What it costs honest users was not measured."
        return
    if "accuracy" in honest and "victim_accuracy" in honest:
        lost = honest["victim_accuracy"] - honest["accuracy"]
        change = "stays" if abs(lost) < 0.0005 else "falls" if lost > 0 else "rises"
        to = f"at {percent(honest['accuracy'])}"
        if change != "stays":
            to = f"from {percent(honest['victim_accuracy'])} to {percent(honest['accuracy'])}"
        yield f"An honest user's accuracy {change} {to}."
    if honest.get("l1", 0.0) > 0.0005:
        yield f"The probabilities that honest users get are off by {honest['l1']:.2f} (L1, of 2 at most)."
    if "downstream_accuracy" in honest:
        right = f"A head trained on an honest user's embeddings is right on {percent(honest['downstream_accuracy'])}"
        plain = honest.get("target_accuracy")
        yield f"{right}." if plain is None else f"{right}, in place of {percent(plain)}."
    if honest.get("refused"):
        yield f"{percent(honest['refused'])} of an honest user's questions are refused."


def percent(share: float) -> str:
    """A share in per cent, as ``97.2 %``."""
    return f"{100 * share:.1f} %"


def count(queries: float) -> str:
    """A number of queries in words, as ``1,000 queries``."""
    return f"{queries:,.0f} quer{'y' if round(queries) == 1 else 'ies'}"


def dollars(usd: float) -> str:
    """An amount in US dollars, as ``1.50 USD``; small ones with as many digits as they need."""
    return f"{usd:,.2f} USD" if usd >= 0.01 or not usd else f"{usd:.2g} USD"
