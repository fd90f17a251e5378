"""The readers of `fmsteal verify`, against files that were written by the code that they check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fmsteal.base.store import checksum, digest
from fmsteal.identity import keys
from fmsteal.job import theft
from fmsteal.oracle.defense_log import DefenseLog, LogRow
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.report.checks import findings, records
from fmsteal.report.checks.defense_log import check_log
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.ledger import read_ledger, require_probabilities
from fmsteal.report.checks.weights import check_weights

KNOWN = {"form": "weights", "width": 3}


def questions(count: int) -> list[Question]:
    return [Question(0, bytes([row]) * 16, 0) for row in range(count)]


def test_digests_keys_and_seals_are_those_of_the_code_that_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"b": [1, 2.5, None, "é"], "a": {"c": True}}
    assert records.canonical_digest(value) == digest(value)
    assert records.key_hash(keys.KEY_VERSION, value) == keys.key_hash(value)
    assert records.flatten(value) == keys.flatten(value)
    theft.write_sealed(tmp_path / "r.json", value)
    found = Findings()
    assert records.read_record(tmp_path / "r.json", "r.json", found) == value and not found.faults
    large = tmp_path / "large"
    large.write_bytes(np.random.default_rng(0).bytes(5 * 2**20 + 17))
    assert found.digest(large) == checksum(large)
    monkeypatch.setattr(findings, "WHOLE", 2**20)
    monkeypatch.setattr("fmsteal.base.store.HASHED_WHOLE", 2**20)
    assert Findings().digest(large) == checksum(large) and checksum(large).startswith("sampled:")


def test_another_spelling_of_the_same_numbers_is_a_fault(tmp_path: Path) -> None:
    """A flipped bit may leave the number that is read what it was."""
    file = tmp_path / "r.json"
    theft.write_sealed(file, {"a": 1e-05, "b": 0.14666666666666667})
    whole = file.read_text()
    for old, new in (("1e-05", "1E-05"), ("0.14666666666666667", "0.14666666666666666"), ("\n", " \n")):
        file.write_text(whole.replace(old, new))
        found = Findings()
        records.read_record(file, "r.json", found)
        assert found.faults == ["r.json: is not spelt as it was written: it was changed afterwards"]


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    answers = np.random.default_rng(0).dirichlet(np.ones(4), 9).astype(np.float32)
    Ledger(tmp_path / "ledger.bin", "a job").append(questions(9), answers)
    found = Findings()
    book = read_ledger(tmp_path / "ledger.bin", found)
    assert book is not None and (book.whose, book.width, len(book.questions)) == ("a job", 4, 9)
    assert np.array_equal(book.answers, answers)
    require_probabilities(book, "ledger.bin", found)
    assert not found.faults
    Ledger(tmp_path / "more.bin", "a job").append(questions(9), 1.1 * answers)
    book = read_ledger(tmp_path / "more.bin", found)
    assert book is not None
    require_probabilities(book, "more.bin", found)
    assert found.faults == ["more.bin: holds answers that are no probabilities, and nothing defends the API"]


def test_a_defenses_log_adds_up_to_its_cost(tmp_path: Path) -> None:
    """Rows without an answer are left out, refused ones are not; of two of one question the later counts."""
    asked = questions(5)
    ledger = Ledger(tmp_path / "ledger.bin", "a job")
    ledger.append(asked[:3], np.ones((3, 2), np.float32))
    rows = [LogRow(asked[0], 0.0, 9.0, 9.0, False, {"odd": 1.0}, b"earlier")]
    rows += [
        LogRow(question, 0.0, 0.5, 2.0, False, {"odd": 1.0}, None) for question in (asked[0], asked[3], *asked[1:3])
    ]
    rows += [LogRow(asked[4], 0.0, 0.0, 2.0, True, {}, None)]
    DefenseLog(tmp_path / "defense.log", "a job", "d").append(rows)
    book = read_ledger(tmp_path / "ledger.bin", Findings())
    cost = {"cost/defense_usd": 1.5, "cost/delay_seconds": 8.0, "cost/refused": 1, "cost/flags/odd": 3.0}
    found = Findings()
    check_log(tmp_path / "defense.log", book, {**cost, "cost/queries": 3}, found)
    assert not found.faults
    check_log(tmp_path / "defense.log", book, {**cost, "cost/defense_usd": 1.0}, found)
    assert found.faults == ["defense.log: its rows add up to cost/defense_usd 1.5, theft.json says 1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_a_fault(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "thief.safetensors"
    tensors = {"a": torch.ones(5, 3, dtype=dtype), "b": torch.arange(4), "c": torch.full((7,), -2, dtype=dtype)}
    said = {"fmsteal": '{"form": "weights", "width": 3}'}
    found = Findings()
    save_file(tensors, file, said)
    check_weights(file, KNOWN, found)
    assert not found.faults
    tensors["c"][3] = float("nan")
    save_file(tensors, file, said)
    check_weights(file, KNOWN, found)
    assert len(found.faults) == 1 and found.faults[0].endswith("are finite") and "c" in found.faults[0]
    check_weights(file, {**KNOWN, "width": 4}, found)
    assert "thief.safetensors: says width 3, theft.json 4" in found.faults
    file.write_bytes(file.read_bytes()[:-1])
    check_weights(file, KNOWN, found)
    assert "thief.safetensors: its tensors do not fill the file" in found.faults
