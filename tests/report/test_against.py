from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fmsteal.errors import FmstealError
from fmsteal.report.against import Beside, against, markdown, plot
from fmsteal.results import Result
from tests.report.test_table import result

FIGURES = {
    "knockoff": {500: [0.70, 0.72, 0.71], 1000: [0.78, 0.80, 0.79]},
    "kcenter": {500: [0.69, 0.72, 0.715], 1000: [0.80, 0.815, 0.812]},
    "jbda": {500: [0.60, 0.63, 0.61]},
}


def jobs() -> list[Result]:
    return [
        result(agreement, seed, attack=attack, budget=str(queries), queries=queries)
        for attack, budgets in FIGURES.items()
        for queries, seeds in budgets.items()
        for seed, agreement in enumerate(seeds)
    ]


def test_gains_are_paired_by_seed_and_judged_as_a_paired_t_test_would() -> None:
    rows = {(row.choice, row.queries): row for row in against(jobs(), "knockoff")}
    assert len(rows) == 5
    for (choice, queries), row in rows.items():
        base = FIGURES["knockoff"][queries]
        assert row.agreement == FIGURES[choice][queries]
        assert row.gain == pytest.approx(np.subtract(row.agreement, base))
        if choice != "knockoff":
            p = stats.ttest_rel(row.agreement, base).pvalue
            better = statistics.fmean(row.gain) > 0
            assert row.verdict == ("" if p > 0.05 else "better" if better else "worse"), (choice, queries, p)
    assert {row.verdict for row in rows.values()} == {"", "better", "worse"}


def test_a_seed_that_the_baseline_has_not_is_no_gain() -> None:
    few = [r for r in jobs() if not (r["axis"]["attack"] == "knockoff" and r["axis"]["seed"] == 1)]
    row = next(row for row in against(few, "knockoff") if (row.choice, row.queries) == ("kcenter", 500))
    assert row.gain == pytest.approx([-0.01, 0.005]) and len(row.agreement) == 3


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(FmstealError, match=r"no result of attack=copycat.*There is: jbda, kcenter, knockoff"):
        against(jobs(), "copycat")
    with pytest.raises(FmstealError, match="no finished job"):
        against([], "knockoff")
    with pytest.raises(FmstealError, match="two results for attack=jbda, 500 queries and seed 0"):
        against([*jobs(), result(0.1, 0, attack="jbda", queries=500)], "knockoff")
    with pytest.raises(FmstealError, match="differ in victim too"):
        against([*jobs(), result(0.1, 0, attack="jbda", queries=500, victim="w")], "knockoff")


def test_the_table_has_the_best_first_and_marks_what_is_no_accident() -> None:
    lines = markdown(against(jobs(), "knockoff"), "knockoff").splitlines()
    assert lines[0] == "| attack | 500 queries | 1,000 queries |"
    assert [line.split("`")[1] for line in lines[2:]] == ["kcenter", "knockoff", "jbda"]
    gain = np.subtract(FIGURES["kcenter"][1000], FIGURES["knockoff"][1000])
    half = stats.t.ppf(0.975, 2) * stats.sem(gain)
    assert lines[2].endswith(f".809 (**+{gain.mean():.3f}** ± {half:.3f}) |".replace("0.", "."))
    assert "(-.002 ± " in lines[2] and "(**-.097** ± " in lines[4] and lines[3] == "| `knockoff` | .710 | .790 |"


def test_one_seed_has_a_gain_and_no_verdict() -> None:
    assert Beside("kcenter", 500, [0.5], [0.1]).verdict == ""
    one = [r for r in jobs() if r["axis"]["seed"] == 0]
    assert "| `kcenter` | .690 (-.010) | .800 (+.020) |" in markdown(against(one, "knockoff"), "knockoff")


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot(against(jobs(), "knockoff"), "knockoff", tmp_path / "curves.png")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    assert picture.shape[1] == 1200 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
