from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fmsteal.records.results import Result, Sweep
from fmsteal.report.read.interval import student_interval
from fmsteal.report.read.study import Study, StudyJob
from fmsteal.report.show.table import show_result, show_sweep
from tests.support.job_folders import result


def cells(jobs: list[Result]) -> tuple[list[str], list[tuple[list[str], list[StudyJob]]]]:
    study = Study.of_results(jobs)
    return list(study.columns), [(list(cell.values.values()), list(cell.jobs)) for cell in study.cells]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9))
@settings(max_examples=50)
def test_students_interval_against_scipy(values: list[float]) -> None:
    got = student_interval(values)
    if np.ptp(values) < 1e-9:
        assert got is None or got == pytest.approx((values[0], values[0]), abs=1e-6)
        return
    want = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert got == pytest.approx(want, abs=1e-9)
    assert student_interval(values, (0, 1)) == pytest.approx((max(want[0], 0), min(want[1], 1)), abs=1e-9)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.9], [0.5, 0.5], [0.5, 0.5, 0.5], [0.1 + 0.2, 0.3, 0.3]])
def test_few_seeds_and_seeds_that_are_all_alike_have_no_interval(values: list[float]) -> None:
    assert student_interval(values) is None


def test_cells_are_what_varies_but_the_seed_in_order_of_queries() -> None:
    jobs = [
        result(0.1 * n, seed, budget=b, queries=q)
        for n, (b, q) in enumerate([("1k", 1000), ("100", 100), ("500", 500)])
        for seed in (0, 1)
    ]
    columns, rows = cells(jobs)
    assert columns == ["budget"]
    assert [(cell, len(group)) for cell, group in rows] == [(["100"], 2), (["500"], 2), (["1k"], 2)]
    assert cells([result(0, queries=1), result(0, queries=2)])[0] == ["queries"]


def test_jobs_of_different_settings_are_never_averaged() -> None:
    """A swept plain field is no axis, but it makes another cell, and a column that tells it apart."""
    jobs = [result(0.1 * k, seed, {"defense.k": k}) for k in (1, 5) for seed in (0, 1)]
    columns, rows = cells(jobs)
    assert columns == ["defense.k"] and [(cell, len(group)) for cell, group in rows] == [(["1"], 2), (["5"], 2)]
    jobs.append(result(0.5, 0, {"defense.k": 1, "thief.recipe.lr": 1e-3}))
    columns, rows = cells(jobs)
    assert columns == ["defense.k", "thief.recipe.lr"] and len(rows) == 3


def test_one_seed_under_two_names_is_not_two_seeds() -> None:
    jobs = [
        result(0.5, seed, {"budget.queries": 20, "budget.x": 0}, budget=b, queries=20)
        for b in ("100", "500")
        for seed in (0, 1)
    ]
    columns, rows = cells(jobs)
    assert columns == ["budget"] and [len(group) for _, group in rows] == [2, 2]


def test_what_the_columns_already_tell_is_no_column() -> None:
    jobs = [result(0, victim=v, victim_adaptation=a, settings={"victim.backbone.size": s}) for v, a, s in
            (("a", "probe", 64), ("b", "scratch", 32))]  # fmt: skip
    assert cells(jobs)[0] == ["victim"]
    older = result(0, victim="c")  # without the adaptation
    assert cells([*jobs, older])[0] == ["victim"]


def test_a_sweeps_table_shows_means_intervals_seeds_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {"a": (0.4, 0.6, 0.5), "b": (0.9,), "c": (0.2, 0.3), "d": (0.1, 0.1, 0.1), "e": (0.99, 0.7, 1)}
    jobs = [result(a, s, victim=v) for v, values in shares.items() for s, a in enumerate(values)]
    show_sweep(
        Sweep(jobs, [{"job_key": "k3", "error": "ValueError: no\nmore", "log": "own.log"}], ["k4"]), tmp_path / "mine"
    )
    said = capsys.readouterr().out
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=0.1 / 3**0.5)
    for words in (
        "mine: 12 of 14 jobs", "0.500", f"{low:.3f} to {high:.3f}", "0.900", "one seed", "two seeds: 0.200, 0.300",
        "3 seeds, all alike", "to 1.000", "2 of 14 jobs without a result",
        "k3", "ValueError: more", "k4", "killed", "own.log",
    ):  # fmt: skip
        assert words in said
    victim = {"job_key": "v", "stage": "victim", "error": "DataError: none", "log": None}
    show_sweep(Sweep(victims=[victim], waiting={"k5": "v", "k6": "w"}, command="fmsteal -m x=[1]"), tmp_path / "mine")
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    assert ["v", "victim", "DataError: none", ""] in rows and ["k6", "thief", "not begun", ""] in rows
    assert ["k5", "thief", "not begun: its victim failed (v)", ""] in rows
    assert "2 of 2 jobs without a result" in said and "continue with: fmsteal -m x=[1]\n" in said
    show_sweep(Sweep(), tmp_path)
    assert capsys.readouterr().out == ""


def test_a_table_has_a_dash_where_a_cell_did_not_measure_what_others_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stolen, unlike = result(0.5, victim="a"), result(0.6, victim="b")
    stolen["metrics"]["test/cosine"] = 0.321
    del unlike["metrics"]["test/accuracy"]
    show_sweep(Sweep([stolen, unlike], [], []), tmp_path / "mixed")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    by_victim = {row[0]: row for row in rows if row and row[0] in ("a", "b")}
    assert by_victim["a"] == ["a", "0.900", "0.500", "0.321", "0.500", "one seed", "1"]
    assert by_victim["b"] == ["b", "0.900", "-", "-", "0.600", "one seed", "1"]


def test_a_single_job_shows_what_else_was_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    job = result(0.5, data="d", query="q", attack="a", defense="none")
    figures = {"test/cka_unbiased": 0.123, "ood/blur/agreement": 0.456}
    interval = (0.4, 0.6)
    more = {
        "metrics": {**job["metrics"], **figures},
        "intervals": dict.fromkeys(("test/agreement", "test/accuracy", "test/victim_accuracy"), interval),
        "cost": {"cost/queries": 10, "cost/usd": 0.1, "cost/seconds": 3.0},
        "tracker": "none",
    }
    show_result({**job, **more}, tmp_path)
    shown = capsys.readouterr().out
    assert "CKA after the attack" in shown and "0.123" in shown and "agreement under blur" in shown and "0.456" in shown
    assert "noise" not in shown and "CKA before" not in shown
