"""``fmsteal report --worst-case``: each defense against the strongest attacker that was tried. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.read.worst_case import AGREE, DEFENSE, KEPT, OF_CLASSIFIERS, OF_ENCODERS, WorstCase, judge_defenses
from fmsteal.report.show.plain import Plain
from fmsteal.report.show.wording import format_number, format_spread

NAIVE = "knockoff"
FIRST = ("worst case", "strongest attacker", "naive attacker")
PAID = {
    OF_CLASSIFIERS: {
        "honest L1": OF_CLASSIFIERS.distance,
        "honest accuracy": OF_CLASSIFIERS.accuracy,
        "label kept": KEPT,
    },
    OF_ENCODERS: {"honest L2": OF_ENCODERS.distance, "honest downstream accuracy": OF_ENCODERS.accuracy},
}


def tabulate_worst_cases(study: Study, naive: str = NAIVE) -> Plain:
    """A row for each defense: its worst case, the naive attacker's figure, and what it costs honest users.

    Raises:
        FmstealError: no defense varies, all attackers are the same, or no cell has all its seeds and predictions.
    """
    study.require_column(DEFENSE)
    found, left = judge_defenses(study, naive)
    if not found:
        raise FmstealError(
            "--worst-case: no cell has a result with predictions for each of its seeds. fmsteal status says how far "
            "the sweep is."
        )
    keys = [name for name in study.columns if name in found[0].values]
    rest = [name for name in keys if not name.startswith(DEFENSE)]
    ordered = sorted(
        found, key=lambda each: ([each.values[name] for name in rest], each.honest.get(each.price.distance, 0.0))
    )
    rows = [[*(each.values[name] for name in keys), *_texts(each)] for each in ordered]
    most = max(each.tried for each in found)
    price = found[0].price
    paid, moved = PAID[price], next(iter(PAID[price])).removeprefix("honest ")
    notes = [
        f"{AGREE[price].capitalize()} of the strongest of up to {most} attackers, chosen on one half of the "
        "test images and measured on the other, with the 95 % interval of that half and the seeds; beside it, on the "
        f"same half, the attacker that knows of no defense ({naive}). What honest users pay is a mean over all jobs of "
        f"a defense. Dominated: another defense of the same victim and budget is as good in worst case, {moved} and "
        "accuracy, and better in one. An attacker that was not tried may be stronger.",
        *([f"{left} cells are left out: a seed has no result, or no predictions."] if left else []),
    ]
    return Plain("worst-case", "each defense against its strongest attacker", keys, (*FIRST, *paid, ""), rows, notes)


def describe_attacker(values: Mapping[str, str]) -> str:
    """An attacker in words, as ``knockoff, attack_loss temperature``: the attack, then what else tells it apart."""
    first = [values["attack"]] if "attack" in values else []
    others = [f"{name} {value}" for name, value in values.items() if name != "attack" and value != "none"]
    return ", ".join([*first, *others])


def _texts(case: WorstCase) -> list[str]:
    paid = PAID[case.price].values()
    figures = [format_number(case.honest[name], HEADLINE) if name in case.honest else "" for name in paid]
    worst = f"{format_number(case.agreement.mean, HEADLINE)} {format_spread(case.agreement, HEADLINE)}".strip()
    naive = format_number(case.naive.mean, HEADLINE) if case.naive else "not tried"
    dominated = "dominated" if case.dominated else ""
    return [worst, describe_attacker(case.attacker), naive, *figures, dominated]
