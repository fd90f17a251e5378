"""What is estimated of a victim: more queries never look safer, and what is outside of the measured range says so."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fmsteal
from fmsteal.risk.check import validate_all
from fmsteal.risk.estimate import BudgetEstimate, estimate
from fmsteal.risk.precision import Precision
from fmsteal.risk.profile import Known, VictimProfile

LITE0 = VictimProfile("mine", Known("probed", True, 1280, 10, 0.8), Precision(), 1.5)
RESNET = replace(LITE0, known=Known("scratch", False, 512, 10, 0.75))


def at(profile: VictimProfile, *ladder: int) -> list[BudgetEstimate]:
    return list(estimate(profile, ladder).budgets)


def test_a_probed_victim_of_a_public_trunk_is_solved_for() -> None:
    few, many = at(LITE0, 500, 1293)
    assert not few.exact and few.expected is not None and few.outside == () and few.usd == pytest.approx(0.75)
    assert many.exact and (many.expected, many.low, many.high) == (1.0, 0.988, 1.0)
    found = estimate(LITE0)
    assert (found.unknowns, found.exact_from) == (1281, 1293) and "1,281 unknowns" in found.exact_says


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (RESNET, "it is scratch"),
        (replace(LITE0, known=replace(LITE0.known, public=False)), "nobody else has its trunk"),
        (replace(LITE0, precision=Precision("label")), "the label alone give no equations"),
        (replace(LITE0, precision=Precision("decimals", 3)), "probabilities to 3 decimals give no equations"),
        (replace(LITE0, precision=Precision("perturbed", by="MAD")), "changed by MAD are no equations"),
    ],
)
def test_what_spoils_solving_is_named(profile: VictimProfile, says: str) -> None:
    found = estimate(profile, [100_000])
    assert found.exact_from is None and "never" in found.exact_says and says in found.exact_says
    assert not found.budgets[0].exact


def test_truncated_answers_may_be_solved_for_and_nothing_is_promised() -> None:
    found = estimate(replace(LITE0, precision=Precision("top", 5)), [2911, 2912])
    assert found.exact_from is None and "not before 2,912 queries, and not surely then" in found.exact_says
    before, after = found.budgets
    assert not after.exact and after.high == 1.0 > before.high  # type: ignore[operator]


PROFILES = st.builds(
    lambda known, precision: VictimProfile("v", known, precision, 1.5),
    st.builds(
        Known,
        st.sampled_from(["probed", "fine-tuned", "scratch", None]), st.sampled_from([True, False, None]),
        st.none() | st.integers(1, 5000), st.integers(2, 10), st.none() | st.floats(0.55, 1.0),
    ),
    st.sampled_from([Precision(), Precision("label"), Precision("decimals", 2), Precision("top", 4)]),
)  # fmt: skip


@given(PROFILES, st.lists(st.integers(1, 10**6), min_size=2, max_size=5, unique=True))
def test_more_queries_never_look_safer(profile: VictimProfile, ladder: list[int]) -> None:
    budgets = at(profile, *sorted(ladder))
    for less, more in itertools.pairwise(budgets):
        assert less.low is not None and more.low is not None and less.high is not None and more.high is not None
        assert 0 <= less.low <= less.high <= 1 and less.high <= more.high + 1e-12
        assert less.usd < more.usd and (more.exact or not less.exact)
        if less.expected is not None and more.expected is not None:
            assert less.expected <= more.expected and less.low - 1e-12 <= less.expected <= less.high + 1e-12
    inside = [budget for budget in budgets if not budget.outside]
    assert all(less.low <= more.low + 1e-12 for less, more in itertools.pairwise(inside))  # type: ignore[operator]


def test_less_precise_answers_are_expected_to_give_less_and_reach_as_high() -> None:
    soft, label = (at(replace(LITE0, precision=one), 500)[0] for one in (Precision(), Precision("label")))
    assert label.expected < soft.expected and label.low < soft.low and label.high == soft.high  # type: ignore[operator]


def test_outside_of_what_was_measured_it_says_so_and_widens() -> None:
    inside, beyond = at(RESNET, 5000, 20_000)
    assert inside.outside == () and set(beyond.outside) == {"queries for each unknown > 9.7", "queries > 5,000"}
    assert beyond.high > inside.high and beyond.low >= inside.low  # type: ignore[operator]
    (narrow,) = at(replace(LITE0, known=replace(LITE0.known, width=640)), 300)
    assert narrow.outside == ("features < 1,280",)
    (sure,) = at(replace(LITE0, known=replace(LITE0.known, accuracy=0.9999)), 300)
    assert sure.outside == ("accuracy > 0.96",)
    (few,) = at(replace(LITE0, known=replace(LITE0.known, classes=4)), 300)
    assert few.outside == ("classes < 10",)


@pytest.mark.parametrize(
    ("known", "precision", "says"),
    [
        (replace(LITE0.known, classes=11), Precision(), "no victim of more than 10 classes was measured"),
        (replace(LITE0.known, classes=None), Precision(), "--classes N"),
        (LITE0.known, Precision("perturbed", by="MAD"), "changed by MAD"),
    ],
)
def test_where_there_is_no_number_the_reason_stands_and_the_price(
    known: Known, precision: Precision, says: str
) -> None:
    (budget,) = at(replace(LITE0, known=known, precision=precision), 4000)
    assert (budget.expected, budget.low, budget.high) == (None, None, None) and says in budget.outside[0]
    assert budget.usd == pytest.approx(6.0)


def test_a_head_of_many_classes_is_solved_for_all_the_same_without_a_number() -> None:
    (budget,) = at(replace(LITE0, known=replace(LITE0.known, classes=1000)), 1293)
    assert budget.exact and budget.expected is None


def test_a_published_trunk_is_shared_however_it_was_trained() -> None:
    tuned = Known("fine-tuned", None, 1280, 10, 0.8)
    assert [replace(LITE0, known=replace(tuned, public=said)).trunks for said in (None, False, True)] == [
        ("other",), ("other",), ("shared",),
    ]  # fmt: skip


def test_of_an_unknown_victim_the_interval_covers_all_that_it_may_be() -> None:
    unknown = replace(LITE0, known=Known(classes=10, accuracy=0.8))
    (all_,), found = at(unknown, 800), estimate(unknown, [800])
    assert all_.expected is None and all_.ratio is None and all_.low is not None and all_.high is not None
    for known in (replace(LITE0.known, width=1280), replace(RESNET.known, width=256, accuracy=0.8)):
        (one,) = at(replace(LITE0, known=known), 800)
        assert all_.low <= one.low and one.high <= all_.high  # type: ignore[operator]
    assert found.exact_from is None and "--width" in found.exact_says
    assert any("--kind, --width" in sentence for sentence in found.says)


def test_the_document_quotes_what_the_check_finds() -> None:
    text = Path(fmsteal.__file__).with_name("risk").joinpath("README.md").read_text()
    for found in validate_all():
        what = f"each of {found.groups} {'victims' if found.left_out == 'victim' else 'studies'}"
        known = "known" if found.informed else "not known"
        figures = [f"{found.rank:.2f}", f"{found.error:.3f}", f"{found.inside:.2f}", f"{found.width:.2f}"]
        row = " | ".join([what, known, *(re.sub("^0", "", figure) for figure in figures)])
        assert f"| {row} |" in text, row
    assert f"{len(validate_all()[0].cells)} cells" in text
