"""The verdict in words, over cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fmsteal.audit.evidence import BudgetPoint, Curve, Evidence, Guarding
from fmsteal.audit.verdict import CLOSE, COPIED, HARDLY, NOT_COPIED, PARTLY, UNKNOWN, judge

Rungs = dict[int, float]


def curve(attack: str, rungs: Rungs, defense: str = "none") -> Curve:
    return Curve(attack, defense, [BudgetPoint(n, share, n, n * 0.0015) for n, share in rungs.items()])


def found(*curves: Curve, guards: tuple[Guarding, ...] = (), seeds: int = 3) -> Evidence:
    defenses = ["none", *(guard.defense for guard in guards)]
    return Evidence(curves, guards, defenses, seeds, len(curves), len(curves))


FREE = curve("own_data", {0: 0.6})


@pytest.mark.parametrize(
    ("rungs", "grade", "says"),
    [
        ({100: 0.7, 1000: 0.96}, COPIED, "solve agrees with it on 96.0 % of the test images after 1,000 queries (1.50"),
        ({100: 0.91, 1000: 0.92}, CLOSE, "closely through its API: solve agrees with it on 91.0 % of the test images"),
        ({100: 0.8}, PARTLY, "in part through its API: solve agrees with it on 80.0 %"),
        ({100: 0.3, 300: 0.5}, HARDLY, "Copies of this model are poor, as far as these attackers got: solve"),
        ({100: 0.3, 300: 0.499}, NOT_COPIED, "None of these attackers copied this model: the best, solve"),
        ({}, UNKNOWN, "No theft from the undefended model has a result yet"),
    ],
)  # fmt: skip
def test_the_grade_is_the_highest_level_that_an_attacker_passes(rungs: Rungs, grade: str, says: str) -> None:
    verdict = judge(found(curve("solve", rungs), FREE))
    assert verdict.grade == grade and says in verdict.headline


def test_the_cheapest_attacker_that_passes_is_named_and_the_best_if_it_is_better_by_much() -> None:
    cheap, strong = curve("top1", {100: 0.95, 3000: 0.95}), curve("solve", {100: 0.5, 3000: 0.99})
    said = judge(found(strong, cheap)).headline
    assert "top1 agrees with it on 95.0 % of the test images after 100 queries (0.15 USD)" in said
    assert said.endswith("and solve on 99.0 % after 3,000 queries.")
    near = judge(found(curve("solve", {100: 0.5, 3000: 0.96}), cheap)).headline
    assert "top1" in near and "solve" not in near


def test_attackers_behind_a_defense_do_not_decide_the_grade() -> None:
    evidence = found(curve("solve", {100: 0.6}), curve("solve", {100: 0.99}, "prada"), guards=(Guarding("prada"),))
    assert judge(evidence).grade == HARDLY


@pytest.mark.parametrize(
    ("free", "says"),
    [
        ([curve("own_data", {0: 0.6})], "60.0 % (own_data): the other 36 points come from the API's answers"),
        ([curve("own_data", {0: 0.95})], "95.0 % (own_data): the API adds little to what is public"),
        ([], "What an attacker reaches without a query was not measured"),
    ],
)
def test_what_needs_no_query_is_told_apart(free: list[Curve], says: str) -> None:
    assert any(says in sentence for sentence in judge(found(curve("solve", {100: 0.96}), *free)).sentences)


def test_attackers_that_ask_nothing_decide_nothing() -> None:
    assert judge(found(curve("own_data", {0: 0.99}), curve("solve", {100: 0.4}))).grade == NOT_COPIED
    assert judge(found(curve("own_data", {0: 0.99}))).grade == UNKNOWN


@pytest.mark.parametrize(
    ("rungs", "rising"),
    [
        ({100: 0.5, 300: 0.9}, True),
        ({100: 0.9, 300: 0.91}, False),
        ({100: 0.9, 300: 0.99}, False),  # there is no more to be had
        ({9: 0.9}, False),
    ],
)
def test_a_curve_that_still_rises_is_said_to(rungs: Rungs, rising: bool) -> None:
    said = " ".join(judge(found(curve("solve", rungs))).sentences)
    assert ("still rising at the largest budget tried (300 queries)" in said) is rising


def test_chance_and_missing_thefts_are_mentioned() -> None:
    sure = found(Curve("solve", "none", [BudgetPoint(100, 0.9, 100, 0.15, (0.87, 0.93), 3, 3)]))
    assert any("87.0 % to 93.0 %, over 3 seeds and the test images" in said for said in judge(sure).sentences)
    assert not any("single run" in said for said in judge(sure).sentences)
    unsure = replace(sure, seeds=1, asked=5, done=3, constant=0.13)
    said = " ".join(judge(unsure).sentences)
    assert "Each theft is a single run" in said and "2 of 5 thefts have no result" in said
    assert "A constant answer agrees with it on 13.0 %." in said


@pytest.mark.parametrize(
    ("behind", "says"),
    [
        (0.95, "does not hold up the strongest attacker (top1: 95.0 % in place of 96.0 % after 300 queries)"),
        (0.90, "holds the strongest attacker up a little (top1: 90.0 % in place of 96.0 %"),
        (0.40, "holds the attackers up (top1, the strongest, reaches 40.0 % in place of 96.0 %"),
    ],
)
def test_a_defense_is_judged_by_its_strongest_attacker_at_the_largest_common_budget(behind: float, says: str) -> None:
    plain = curve("solve", {100: 0.7, 300: 0.96, 1000: 0.99}), curve("top1", {300: 0.9})
    defended = curve("solve", {100: 0.2, 300: 0.1}, "mad"), curve("top1", {100: 0.3, 300: behind}, "mad")
    assert says in judge(found(*plain, *defended, guards=(Guarding("mad"),))).defenses["mad"]


def test_what_detectors_saw_and_honest_users_lose_is_said() -> None:
    honest = {"accuracy": 0.95, "victim_accuracy": 0.97, "l1": 0.31, "flags/prada": 0.004, "refused": 0.01}
    guard = Guarding("prada", {"prada": 0.42}, 0.1, 12.0, honest)
    curves = curve("solve", {100: 0.9}), curve("solve", {100: 0.9}, "prada")
    said = judge(found(*curves, guards=(guard,))).defenses["prada"]
    for words in (
        "The detector prada flagged 42.0 % of the attackers' queries, and 0.4 % of an honest user's.",
        "10.0 % of the attackers' queries were refused.", "A theft was delayed by 12 s.",
        "An honest user's accuracy falls from 97.0 % to 95.0 %.", "off by 0.31 (L1",
        "1.0 % of an honest user's questions",
    ):  # fmt: skip
        assert words in said
    encoder = replace(guard, honest={"downstream_accuracy": 0.8, "target_accuracy": 0.9})
    said = judge(found(*curves, guards=(encoder,))).defenses["prada"]
    assert said.endswith("A head trained on an honest user's embeddings is right on 80.0 %, in place of 90.0 %.")
    unharmed = replace(guard, flagged={}, refused=0.0, delay=0.0, honest={"accuracy": 0.97, "victim_accuracy": 0.97})
    said = judge(found(*curves, guards=(unharmed,))).defenses["prada"]
    assert said.endswith("An honest user's accuracy stays at 97.0 %.")
    unknown = judge(found(curves[0], guards=(Guarding("prada"),))).defenses["prada"]
    assert "No theft can be compared with and without it" in unknown


def test_a_level_is_passed_by_the_smallest_budget_that_reaches_it() -> None:
    shaky = curve("solve", {100: 0.85, 300: 0.79, 1000: 0.9})
    passed = {level: shaky.first_over(level) for level in (0.5, 0.8, 0.9, 0.95)}
    assert {level: point and point.budget for level, point in passed.items()} == {
        0.5: 100,
        0.8: 100,
        0.9: 1000,
        0.95: None,
    }
