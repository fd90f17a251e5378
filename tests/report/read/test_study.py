from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import scipy.stats

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.base.store import write_json
from fmsteal.report.read.study import Study, pair_figures
from tests.support.job_folders import asked, axis, begun, done


def test_cells_have_means_over_seeds_with_students_interval(tmp_path: Path) -> None:
    for seed, share in enumerate((0.5, 0.75, 0.625)):
        done(tmp_path, f"a{seed}", share, seed=seed)
    done(tmp_path, "b0", 0.25, victim="b")
    study = Study.of([tmp_path])
    assert study.columns == ["victim"] and study.same == {"data": "digits", "thief": "t", "budget": "100"}
    one, other = study.cells
    figure = one.figure("test/agreement")
    assert figure is not None and (figure.mean, figure.n, figure.of) == (0.625, 3, 3)
    want = scipy.stats.t.interval(0.95, 2, loc=0.625, scale=statistics.stdev((0.5, 0.75, 0.625)) / 3**0.5)
    assert figure.interval == pytest.approx(want) and figure.half == pytest.approx((want[1] - want[0]) / 2)
    single = other.figure("test/agreement")
    assert single is not None and single.interval is None and single.half is None
    assert pair_figures(one, other) == [(0.5, 0.25)]
    assert one.figure("test/absent") is None and one.figure("cost/seconds").mean == 2.0  # type: ignore[union-attr]


def test_what_is_not_there_stays_in_its_cell(tmp_path: Path) -> None:
    asked(tmp_path, {"a0": axis(), "a1": axis(1), "c0": axis(0, victim="c"), "f0": axis(0, victim="f")})
    done(tmp_path, "a0", 0.5)
    write_json(begun(tmp_path, "f0") / "failure.json", {"job_key": "f0", "axis": axis(victim="f"), "error": "E: x"})
    study = Study.of([tmp_path])
    assert [c.values["victim"] for c in study.cells] == ["a", "c", "f"]
    figure = study.cells[0].figure("test/agreement")
    assert figure is not None and (figure.n, figure.of, figure.whole) == (1, 2, False)
    assert [[j.on_disk.state for j in c.jobs] for c in study.cells] == [["done", "missing"], ["missing"], ["failed"]]
    assert study.cells[1].figure("test/agreement") is None and not study.cells[1].done
    assert len(study.left) == 3 and not study.unplaced


def test_a_job_found_in_two_sweeps_counts_once(tmp_path: Path) -> None:
    for sweep in ("one", "two"):
        (tmp_path / sweep).mkdir()
        done(tmp_path / sweep, "same", 0.5)
    done(tmp_path / "two", "more", 0.75, seed=1)
    study = Study.of([tmp_path / "one", tmp_path / "two"])
    (cell,) = study.cells
    assert study.repeated == ["same"] and len(cell.jobs) == 2
    assert [job.sweep for job in cell.jobs] == ["one", "two"]


def test_settings_tell_cells_apart_where_the_axes_do_not(tmp_path: Path) -> None:
    done(tmp_path, "slow", 0.5, {"thief.recipe.lr": 0.1, "thief.recipe.epochs": 3})
    done(tmp_path, "fast", 0.5, {"thief.recipe.lr": 0.2, "thief.recipe.epochs": 3})
    study = Study.of([tmp_path])
    assert study.columns == ["thief.recipe.lr"] and study.values("thief.recipe.lr") == ["0.1", "0.2"]
    with pytest.raises(FmstealError, match=r"There is no axis thief.* What varies: thief.recipe.lr"):
        study.require_column("thief.recipe")
    with pytest.raises(FmstealError, match=r"victim is a in all cells"):
        study.require_column("victim")


def test_budgets_are_in_the_order_of_their_queries(tmp_path: Path) -> None:
    for name, queries in (("1k", 1000), ("100", 100), ("2k5", 2500), ("500", 500)):
        done(tmp_path, name, 0.5, budget=name, queries=queries)
    study = Study.of([tmp_path])
    assert study.columns == ["budget"] and study.values("budget") == ["100", "500", "1k", "2k5"]
    assert [cell.queries for cell in study.cells] == [100, 500, 1000, 2500]
    assert list(study.groups(["budget"])) == [()]


def test_a_half_written_result_is_without_a_cell_where_no_plan_knows_it(tmp_path: Path) -> None:
    done(tmp_path, "a0", 0.5)
    (begun(tmp_path, "torn") / "result.json").write_text('{"metr')
    study = Study.of([tmp_path])
    assert [(job.on_disk.key, job.on_disk.state) for job in study.unplaced] == [("torn", "unreadable")]
    asked(tmp_path, {"torn": axis(1)})
    study = Study.of([tmp_path])
    assert not study.unplaced and [job.on_disk.state for job in study.cells[0].jobs] == ["done", "unreadable"]


def test_no_sweep_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no folder"):
        Study.of([tmp_path / "absent"])
    with pytest.raises(StoreError, match="is no sweep"):
        Study.of([tmp_path])
