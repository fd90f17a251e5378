from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fmsteal.report.table import cells, show_sweep, student_interval, varying


def result(agreement: float, seed: int = 0, **axis: object) -> dict[str, object]:
    names = {"victim": "v", "thief": "t", "budget": "1k", "queries": 1000, "seed": seed, **axis}
    figures = {"test/agreement": agreement, "test/accuracy": 0.5, "test/victim_accuracy": 0.9}
    return {"axis": names, "metrics": figures, "budget": names["queries"], "job_key": f"j{seed}"}


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
@settings(max_examples=50, deadline=None)
def test_students_interval_against_scipy(values: list[float]) -> None:
    got = student_interval(values)
    assert got is not None
    if np.std(values) < 1e-9:
        assert got == pytest.approx((values[0], values[0]), abs=1e-6)
        return
    want = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert got == pytest.approx(want, abs=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert student_interval([0.5]) is None


def test_cells_are_what_varies_but_the_seed_in_order_of_queries() -> None:
    jobs = [
        result(0.1 * n, seed, budget=b, queries=q)
        for n, (b, q) in enumerate([("1k", 1000), ("100", 100), ("500", 500)])
        for seed in (0, 1)
    ]
    names = varying([j["axis"] for j in jobs])  # type: ignore[misc]
    assert names == ["budget"]
    found = cells(jobs, names)
    assert [(cell, len(group)) for cell, group in found] == [(("100",), 2), (("500",), 2), (("1k",), 2)]
    assert varying([result(0, queries=1)["axis"], result(0, queries=2)["axis"]]) == ["queries"]  # type: ignore[list-item]


def test_a_sweeps_table_shows_means_intervals_seeds_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        result(a, s, victim=v) for v, shares in {"a": (0.4, 0.6), "b": (0.9,)}.items() for s, a in enumerate(shares)
    ]
    show_sweep(jobs, [{"job_key": "k3", "error": "ValueError: no\nmore"}], tmp_path / "mine")
    said = capsys.readouterr().out
    low, high = stats.t.interval(0.95, 1, loc=0.5, scale=0.1)
    for words in (
        "mine: 3 jobs",
        "0.500",
        f"{low:.3f} to {high:.3f}",
        "0.900",
        "one seed",
        "1 of 4 jobs failed",
        "k3",
        "ValueError: no",
    ):
        assert words in said
    show_sweep([], [], tmp_path)
    assert capsys.readouterr().out == ""
