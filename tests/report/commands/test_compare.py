from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from scipy import stats

from fmsteal.base.errors import FmstealError
from fmsteal.report.commands.compare import Comparison, compare, list_remarks, main
from fmsteal.report.read.difference import Difference
from fmsteal.report.read.study import Study
from tests.support.job_folders import asked, axis, done
from tests.support.sweeps import finished

A = (0.50, 0.52, 0.51)
B = (0.54, 0.57, 0.555)


def sweep(folder: Path, figures: dict[str, tuple[float, ...]], first: int = 0, **settings: object) -> Path:
    """Jobs of seeds in a row for each victim."""
    for victim, shares in figures.items():
        for seed, share in enumerate(shares, first):
            done(folder, f"{victim}{seed}", share, dict(settings), seed=seed, victim=victim)
    return folder


def compared(one: Path, other: Path) -> Comparison:
    return compare(Study.of([one]), Study.of([other]))


def test_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A, "b": A, "gone": A})
    found = compared(one, sweep(tmp_path / "two", {"a": B, "b": (0.55, 0.49, 0.50), "new": A}))
    moved, same = found.moves
    assert (moved.name, moved.told, same.told) == ("victim a", True, False)
    gains = [b - a for a, b in zip(A, B, strict=True)]
    want = stats.ttest_rel(B, A).confidence_interval(0.95)
    assert moved.difference and moved.difference.by == "paired, 3 seeds" and moved.difference.paired
    assert moved.difference.interval == pytest.approx((want.low, want.high))
    assert moved.difference.value == pytest.approx(sum(gains) / 3)
    assert found.only == (["victim gone"], ["victim new"]) and found.by_axes == 0
    assert "1 of 2 intervals exclude zero (bold); if nothing had changed, about 0.1 would by chance." in list_remarks(
        found
    )


def test_other_seeds_are_compared_as_welch_does(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A})
    (move,) = compared(one, sweep(tmp_path / "two", {"a": (*B, 0.56)}, first=2)).moves
    want = stats.ttest_ind((*B, 0.56), A, equal_var=False).confidence_interval(0.95)
    assert move.difference and move.difference.by == "Welch, 3 and 4 seeds" and move.told
    assert move.difference.interval == pytest.approx((want.low, want.high))


def test_one_seed_has_a_difference_and_no_interval(tmp_path: Path) -> None:
    one, other = sweep(tmp_path / "one", {"a": A}), sweep(tmp_path / "two", {"a": (0.75,)}, first=1)
    found = compared(one, other)
    (move,) = found.moves
    assert move.difference == Difference(pytest.approx(0.75 - 0.52), None, "the seed of both"), "not of the means"
    assert not move.told
    assert any("no interval" in line for line in list_remarks(found))


def test_where_a_setting_changed_in_all_cells_the_axes_match(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A, "b": A}, **{"thief.recipe.lr": 0.1, "x": 1})
    found = compared(one, sweep(tmp_path / "two", {"a": B, "b": B}, **{"thief.recipe.lr": 0.2, "x": 1}))
    assert len(found.moves) == found.by_axes == 2 and found.settings == {"thief.recipe.lr": (0.1, 0.2)}
    assert any(
        "2 cells were matched by their axes" in s and "thief.recipe.lr (0.1 -> 0.2)" in s for s in list_remarks(found)
    )


def test_cells_that_the_axes_do_not_tell_apart_are_not_guessed(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        done(tmp_path / "one", f"j{lr}", 0.5, {"lr": lr})
    done(tmp_path / "two", "k", 0.5, {"lr": 0.3})
    found = compared(tmp_path / "one", tmp_path / "two")
    assert not found.moves and (len(found.only[0]), len(found.only[1])) == (2, 1)
    assert list_remarks(found)[0] == "The sweeps have no cell in common."


def test_a_cell_without_a_figure_says_so(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A, "b": A})
    other = tmp_path / "two"
    done(other, "a0", 0.5, seed=0, victim="a")
    asked(other, {"a0": axis(victim="a"), "b0": axis(victim="b")})
    found = compared(one, other)
    assert [(m.name, m.difference is None) for m in found.moves] == [("victim a", False), ("victim b", True)]
    assert any(line.startswith("1 cells have no figure") for line in list_remarks(found))


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = sweep(tmp_path / "one", {"a": A, "gone": A}), sweep(tmp_path / "two", {"a": B})
    main(["compare", str(one), str(other), "--csv", str(tmp_path / "moves.csv")])
    said = capsys.readouterr().out
    assert "+0.045" in said and "paired, 3 seeds" in said and "only in A, 1 cells: victim gone" in said
    rows = list(csv.DictReader((tmp_path / "moves.csv").open()))
    assert [row["cell"] for row in rows] == ["victim a", "victim gone"] and rows[1]["by"] == "only in a"
    assert float(rows[0]["difference"]) == pytest.approx(0.045) and rows[0]["told"] == "1"
    main(["compare", str(one), str(other), "--csv", "-"])
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 2


def test_what_cannot_be_compared_is_a_clear_error(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A})
    with pytest.raises(FmstealError, match=r"No finished job measured test/x. There is: test/agreement, cost/seconds"):
        compare(Study.of([one]), Study.of([one]), "test/x")
    with pytest.raises(SystemExit, match="There is no folder"):
        main(["compare", str(one), str(tmp_path / "absent")])
    with pytest.raises(SystemExit, match=r"There is no folder .*nowhere"):
        main(["compare", str(one), str(one), "--csv", str(tmp_path / "nowhere" / "a.csv")])


def test_a_sweep_beside_itself_has_not_moved(tmp_path: Path) -> None:
    one = sweep(tmp_path / "one", {"a": A})
    (move,) = compared(one, one).moves
    assert move.difference == Difference(0.0, None, "paired, 3 seeds", 3) and not move.told


def test_the_metric_says_what_it_is_called_and_that_less_is_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        finished(tmp_path / name, "j", 0.5)
    for metric, label, less in (("test/kl", "KL(victim || thief), nats", True), ("test/agreement", "agreement", False)):
        main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--metric", metric])
        said = capsys.readouterr().out
        assert f"{label}: A = " in said and ("Here less is more of a theft." in said) is less
