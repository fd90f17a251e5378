"""Each row of the table of measured cells is what the document that it names prints."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fmsteal.risk.measured import FILE, find_strongest, read_cells

ROOT = Path(__file__).parents[2]


def read_rows() -> list[dict[str, str]]:
    with FILE.open(newline="") as lines:
        return list(csv.DictReader(lines))


def is_printed(row: dict[str, str], lines: list[str]) -> bool:
    """Whether a line that begins as the row says has its agreement, and its interval if it has one."""
    interval = f"{row['low']} to {row['high']}" if row["low"] else ""
    mine = [line for line in lines if line.startswith(row["row"])]
    return any(f"{row['agreement']}" in line and interval in line for line in mine)


def test_each_figure_occurs_in_its_document() -> None:
    texts = {name: (ROOT / name).read_text() for name in {row["document"] for row in read_rows()}}
    lines = {name: text.splitlines() for name, text in texts.items()}
    assert not [row for row in read_rows() if not is_printed(row, lines[row["document"]])]
    assert not [row for row in read_rows() if row["victim_accuracy"] not in texts[row["document"]]]
    assert not [row for row in read_rows() if f"{int(row['queries']):,}" not in texts[row["document"]]]


def test_a_figure_that_has_drifted_is_found() -> None:
    row = {"row": "| a |", "agreement": ".500", "low": ".400", "high": ".600"}
    assert is_printed(row, ["| a | **.500** (.400 to .600) |"])
    assert not is_printed(row, ["| a | **.501** (.400 to .600) |", "| b | .500 (.400 to .600) |"])
    assert not is_printed(row, ["| a | .500 (.400 to .601) |"])


def test_rows_are_whole() -> None:
    rows, cells = read_rows(), read_cells()
    assert len(rows) == len(cells) >= 100
    for row, cell in zip(rows, cells, strict=True):
        assert float(row["ratio"]) == pytest.approx(cell.ratio, abs=5e-4)
        assert cell.kind in {"probed", "fine-tuned", "scratch"} and cell.trunk in {"shared", "other"}
        assert cell.trunk == "other" or cell.kind == "probed"
        assert (cell.use == "fit") == (not cell.why) and cell.use in {"fit", "pair", "none"}
        assert 1 / cell.classes < cell.agreement <= 1 and cell.classes == 10
        assert cell.interval is None or cell.interval[0] <= cell.agreement <= cell.interval[1]


def test_the_strongest_attacker_is_the_best_of_its_situation() -> None:
    cells = read_cells()
    found = find_strongest(cells)
    assert len({cell.situation for cell in found}) == len(found)
    for cell in found:
        assert cell.agreement == max(one.agreement for one in cells if one.situation == cell.situation)
