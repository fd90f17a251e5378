from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fmsteal.report.read.holm import adjust
from fmsteal.report.read.study import Study
from fmsteal.report.show import typeset
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.tables import Table
from tests.support.job_folders import done


def by_closure(chances: list[float]) -> list[float]:
    """Closed testing (Marcus et al. 1976) with Bonferroni's test of every intersection: what Holm's steps shorten."""
    places = range(len(chances))
    families = [set(some) for size in range(1, len(chances) + 1) for some in combinations(places, size)]
    return [max(min(len(f) * min(chances[j] for j in f), 1.0) for f in families if place in f) for place in places]


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.02, 1.0])), max_size=7))
@settings(max_examples=60)
def test_holms_correction_is_closed_testing(chances: list[float]) -> None:
    assert adjust(chances) == pytest.approx(by_closure(chances), abs=1e-12)


def test_holms_correction_against_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    chances = [0.01, 0.04, 0.03, 0.005, 0.9, 0.03]
    assert adjust(chances) == pytest.approx(multitest.multipletests(chances, method="holm")[1])


BASE = [0.70, 0.72, 0.71, 0.69]
GAINS = {"far": [0.10, 0.101, 0.099, 0.1], "near": [0.02, 0.03, 0.01, 0.012], "none": [0.01, -0.01, 0.02, -0.015]}


def test_a_difference_that_one_test_would_call_one_may_be_chance_among_all_of_the_table(tmp_path: Path) -> None:
    for seed, share in enumerate(BASE):
        for thief in ("t1", "t2"):
            done(tmp_path, f"base-{thief}-{seed}", share, seed=seed, attack="base", thief=thief)
            for attack, gains in GAINS.items():
                columns = {"attack": attack, "thief": thief}
                done(tmp_path, f"{attack}-{thief}-{seed}", share + gains[seed], seed=seed, **columns)
    study = Study.of([tmp_path])
    table = Table.of(study, Layout.of(study), "base")
    chance = {name: float(stats.ttest_1samp(gains, 0).pvalue) for name, gains in GAINS.items()}
    assert chance["near"] < 0.05 < 4 * chance["near"] and 6 * chance["far"] < 0.05  # of 6, two thieves by three attacks
    want = by_closure([chance[name] for name in GAINS for _ in range(2)])
    for values, row in table.rows:
        attack, difference = values[-1], row[0].difference
        if attack in GAINS:
            assert difference and difference.chance == pytest.approx(chance[attack])
            assert difference.adjusted == pytest.approx(want[2 * list(GAINS).index(attack)])
            assert row[0].bold == (attack == "far") and difference.told == (attack != "none")
    said = typeset.markdown(table)
    assert "Holm's correction over all 6 comparisons of the table (at 5 %), as 2 are; taken one by one, 4 of" in said
