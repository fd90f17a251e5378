from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fmsteal.base.store import write_json
from fmsteal.report.commands import main
from fmsteal.report.read import tidy
from fmsteal.report.show import listing
from tests.support.job_folders import begun, plan

RESULT = {
    "schema": 1, "intervals": {"test/agreement": [0.25, 0.75]}, "cost": {"cost/queries": 300, "cost/seconds": 1.5},
    "metrics": {"test/agreement": 0.5, "ood/noise/agreement": 0.1},
}  # fmt: skip


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    plan(folder, "done", "other", "failed", "torn", "no")
    axis = {"victim": "a", "queries": 300, "seed": 3, "data": "digits"}
    write_json(begun(folder, "done") / "result.json", {**RESULT, "job_key": "done", "axis": axis})
    other = {**RESULT, "axis": {**axis, "victim": "b", "queries": "none", "seed": 4}, "metrics": {"test/cosine": 0.25}}
    write_json(begun(folder, "other") / "result.json", {**other, "intervals": {}})
    failure = {"job_key": "failed", "axis": axis, "error": "ValueError: a, 'b'\nand more"}
    write_json(begun(folder, "failed") / "failure.json", failure)
    (begun(folder, "torn") / "result.json").write_text("{")
    return folder


def read_back(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_one_row_for_each_job_with_flat_columns(sweep: Path, tmp_path: Path) -> None:
    main(["results", str(sweep), "--csv", str(tmp_path / "t.csv")])
    rows = read_back((tmp_path / "t.csv").read_text())
    assert [(r["job_key"], r["state"], r["seed"]) for r in rows] == [
        ("done", "done", "3"), ("failed", "failed", "3"), ("no", "missing", ""), ("other", "done", "4"),
        ("torn", "unreadable", ""),
    ]  # fmt: skip
    done = rows[0]
    want = {
        "sweep": "mine", "stage": "thief", "axis.victim": "a", "axis.queries": "300", "test/agreement": "0.5",
        "test/agreement.low": "0.25", "test/agreement.high": "0.75", "ood/noise/agreement": "0.1",
        "cost/queries": "300", "cost/seconds": "1.5", "error": "", "test/cosine": "", "folder": str(sweep / "done"),
    }  # fmt: skip
    assert {k: done[k] for k in want} == want and "axis.seed" not in done
    assert rows[3]["test/cosine"] == "0.25" and rows[3]["test/agreement"] == ""
    assert rows[1]["error"] == "and more" and rows[1]["axis.victim"] == "a"
    assert "half-written" in rows[4]["error"]


def test_several_sweeps_make_one_table(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(begun(tmp_path / "second", "x") / "result.json", {**RESULT, "axis": {"victim": "c", "seed": 0}})
    main(["results", str(sweep), str(tmp_path / "second"), "--csv", "-"])
    captured = capsys.readouterr()
    assert [r["sweep"] for r in read_back(captured.out)] == ["mine"] * 5 + ["second"]
    assert f"fmsteal: {sweep / 'torn'}: result.json is no JSON" in captured.err


def test_the_terminal_shows_what_varies(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["results", str(sweep)])
    out = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in out.splitlines()]
    table = [line for line in lines if line]
    assert table[0][:4] == ["job", "victim", "seed", "state"] and table[0].count("queries") == 1
    assert table[1][:4] == ["done", "a", "3", "done"] and "0.250 to 0.750" in table[1] and "0.500" in table[1]
    assert table[1][-2] == table[2][-2] == "300", "also of a job that failed"
    assert table[3][:4] == ["no", "", "", "missing"]
    assert "in all: data=digits\n" in out


def test_queries_stand_there_twice_only_where_a_job_asked_fewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, budget, asked in (("a", 300, 300), ("b", 500, 120)):
        result = {**RESULT, "axis": {"victim": name, "queries": budget, "seed": 0}, "cost": {"cost/queries": asked}}
        write_json(begun(tmp_path, name) / "result.json", {**result, "job_key": name})
    main(["results", str(tmp_path)])
    rows = [line.replace("┃", "│").split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    head, one, other = [[cell.strip() for cell in row] for row in rows if row]
    assert (one[head.index("queries")], one[head.index("asked")]) == ("300", "300")
    assert (other[head.index("queries")], other[head.index("asked")]) == ("500", "120")


def test_names_are_not_broken_where_there_is_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victims = [f"a_victim_with_a_name_of_many_letters_{letter}" for letter in "xy"]
    attacks = [f"activethief_dfal_kcenter_of_{letter}" for letter in "xy"]
    for number, (victim, attack) in enumerate(zip(victims, attacks, strict=True)):
        result = {**RESULT, "axis": {"victim": victim, "attack": attack, "queries": 300, "seed": number}}
        write_json(begun(tmp_path, victim) / "result.json", {**result, "job_key": victim})
    listing.show(tidy.make_rows(tmp_path), Console(width=40))
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in (*victims, *attacks)), out


def test_results_that_lack_everything_still_make_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(begun(tmp_path, "odd") / "result.json", {"metrics": None, "axis": []})
    write_json(begun(tmp_path, "list") / "result.json", [1])
    main(["results", str(tmp_path)])
    out = capsys.readouterr().out
    assert "odd" in out and "unreadable" in out


def test_parquet_reads_back(sweep: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    main(["results", str(sweep), "--parquet", str(tmp_path / "t.parquet")])
    table = parquet.read_table(tmp_path / "t.parquet")
    rows = tidy.make_rows(sweep)
    assert table.column_names == tidy.list_columns(rows) and table.num_rows == 5
    read = table.to_pydict()
    assert read["test/agreement"] == [0.5, None, None, None, None] and read["seed"] == [3, 3, None, 4, None]
    assert read["axis.queries"] == ["300", "300", None, "none", None]  # of one type: text, where not all are numbers


def test_without_pyarrow_the_error_names_the_extra(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match=r"fmsteal\[parquet\].*--csv"):
        main(["results", str(sweep), "--parquet", str(tmp_path / "t.parquet")])
    assert not (tmp_path / "t.parquet").exists()


def test_a_file_that_cannot_be_written_is_a_clear_error(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no folder"):
        main(["results", str(sweep), "--csv", str(tmp_path / "absent" / "t.csv")])
