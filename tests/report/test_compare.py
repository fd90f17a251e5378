from __future__ import annotations

import csv
from pathlib import Path

import pytest
import scipy.stats

from fmsteal.report.compare import compare, main
from fmsteal.report.study import Study
from tests.report.test_study import done

BEFORE, AFTER = (0.50, 0.61, 0.70), (0.55, 0.67, 0.74)


@pytest.fixture
def sweeps(tmp_path: Path) -> tuple[Path, Path]:
    """`a` is in both with the same seeds, `b` with other seeds, `c` with another setting, `d` and `e` in one alone."""
    one, other = tmp_path / "one", tmp_path / "other"
    for seed, (before, after) in enumerate(zip(BEFORE, AFTER, strict=True)):
        done(one, f"a{seed}", before, attack="a", seed=seed)
        done(other, f"a{seed}", after, attack="a", seed=seed)
        done(one, f"b{seed}", before, attack="b", seed=seed)
        done(other, f"b{seed + 10}", after, attack="b", seed=seed + 10)
    done(one, "c", 0.5, {"lr": 0.1}, attack="c")
    done(other, "c2", 0.7, {"lr": 0.2}, attack="c")
    done(one, "d", 0.5, attack="d")
    done(other, "e", 0.5, attack="e")
    return one, other


def test_differences_are_scipys(sweeps: tuple[Path, Path]) -> None:
    moves, left, right = compare(*(Study.of([folder]) for folder in sweeps))
    found = {move.name: move for move in moves}
    gains = [after - before for before, after in zip(BEFORE, AFTER, strict=True)]
    paired = scipy.stats.ttest_rel(AFTER, BEFORE).confidence_interval()
    assert found["a"].test == "paired" and found["a"].interval == pytest.approx((paired.low, paired.high))
    assert found["a"].difference == pytest.approx(sum(gains) / 3) and found["a"].verdict == "up"
    welch = scipy.stats.ttest_ind(AFTER, BEFORE, equal_var=False).confidence_interval()
    assert found["b"].test == "Welch" and found["b"].interval == pytest.approx((welch.low, welch.high))
    assert found["b"].verdict == "" and found["b"].n == "3, 3"
    assert (found["c"].matched, found["c"].interval, found["c"].test) == ("axes", None, "none")
    assert [[cell.values["attack"] for cell in cells] for cells in (left, right)] == [["d"], ["e"]]


def test_the_command_says_what_moved(
    sweeps: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", *map(str, sweeps), "--csv", str(tmp_path / "moves.csv")])
    out = capsys.readouterr().out
    assert "1 of 2 differences have an interval that leaves zero out; by chance alone 0.1 would; 1 with too few" in out
    assert f"only in {sweeps[0]}: d" in out and f"only in {sweeps[1]}: e" in out and "matched by its axes" in out
    with (tmp_path / "moves.csv").open() as stream:
        rows = {row["cell"]: row for row in csv.DictReader(stream)}
    assert rows["a"]["verdict"] == "up" and float(rows["a"]["difference"]) == pytest.approx(0.05)
    assert rows["c"]["low"] == "" and len(rows) == 3


def test_a_sweep_and_itself_do_not_differ(sweeps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(sweeps[0]), str(sweeps[0])])
    out = capsys.readouterr().out
    assert "0 of 2 differences" in out and "only in" not in out


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--metric", "test/absent"], "No finished job measured test/absent"), (["--csv", "absent/t.csv"], "no folder")],
)
def test_what_is_wrong_is_named(sweeps: tuple[Path, Path], words: list[str], says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        main(["compare", *map(str, sweeps), *words])
