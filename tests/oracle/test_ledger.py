from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import LedgerError, StoreError
from fmsteal.oracle.index import Index, keys_of
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.oracle.records import CHUNK
from tests.support.questions import ANSWERS, questions


def test_answers_survive_reopening(tmp_path: Path) -> None:
    file = tmp_path / "ledger.bin"
    ledger = Ledger(file, "job")
    ledger.append(questions(4), ANSWERS[:4])
    ledger.append(questions(9)[4:], ANSWERS[4:])
    again = Ledger(file, "job")
    assert len(again) == 9 and list(again) == questions(9) and list(Ledger(tmp_path / "none.bin", "job")) == []
    np.testing.assert_array_equal(again.answers, ANSWERS)
    np.testing.assert_array_equal(again.read(questions(9)[::-1]), ANSWERS[::-1])
    assert questions(1)[0] in again and Question(1, bytes(16), 0) not in again


@given(st.data())
@settings(max_examples=60)
def test_a_file_cut_anywhere_keeps_every_whole_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("ledger") / "ledger.bin"
    Ledger(file, "job").append(questions(9), ANSWERS)
    content = file.read_bytes()
    header, record = content.index(b"\n") + 1, 4 + 4 + 16 + 4 + 16
    cut = data.draw(st.integers(0, len(content)))
    file.write_bytes(content[:cut])
    again = Ledger(file, "job")
    whole = max(0, cut - header) // record
    assert len(again) == whole
    again.append(questions(9)[whole:], ANSWERS[whole:])
    np.testing.assert_array_equal(Ledger(file, "job").answers, ANSWERS)


def test_a_damaged_record_is_left_out_and_the_answers_after_it_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ledger.bin"
    Ledger(file, "job").append(questions(9), ANSWERS)
    content = bytearray(file.read_bytes())
    content[-60] ^= 3  # two bits in the last but one
    file.write_bytes(bytes(content))
    again = Ledger(file, "job")
    assert len(again) == 8 and questions(9)[7] not in again
    np.testing.assert_array_equal(again.answers, np.delete(ANSWERS, 7, axis=0))
    (kept,) = tmp_path.glob("ledger.bin.damaged-*")
    assert kept.read_bytes() == bytes(content) and "1 records are damaged" in caplog.text
    again.append(questions(9)[7:8], ANSWERS[7:8])
    np.testing.assert_array_equal(Ledger(file, "job").read(questions(9)), ANSWERS)


def test_a_known_width_is_held_against_the_file(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.bin", "job").append(questions(2), ANSWERS[:2])
    with pytest.raises(LedgerError, match="width from 4 to 11"):
        Ledger(tmp_path / "ledger.bin", "job", width=11)
    assert Ledger(tmp_path / "other.bin", "job", width=11).answers.shape == (0, 11)


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 2)), max_size=40), max_size=9))
@settings(max_examples=60)
def test_the_index_is_a_dictionary(calls: list[list[tuple[int, int, int]]]) -> None:
    index, known = Index(), dict[Question, int]()
    for call in calls:
        asked = [Question(client, bytes([image]) * 16, nth) for client, image, nth in call]
        added = []
        for question in asked:
            added.append(question not in known)
            known.setdefault(question, len(known))
        assert index.add(keys_of(asked)).tolist() == added and len(index) == len(known)
        assert index.find(keys_of(asked)).tolist() == [known[q] for q in asked]
    every = [Question(c, bytes([i]) * 16, n) for c in range(3) for i in range(10) for n in range(3)]
    assert index.find(keys_of(every)).tolist() == [known.get(q, -1) for q in every]


def ordered(count: int, order: str) -> np.ndarray:
    """Keys of digests that are numbers in order, as a counter would make them."""
    if order == "asks":
        return keys_of([(7, b"x" * 16, nth) for nth in range(count)])
    return keys_of([(0, number.to_bytes(16, order), 0) for number in range(count)])  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["big", "little", "asks", "random"])
def test_keys_of_any_order_are_spread_over_the_table(order: str) -> None:
    """Drawn at random, of n keys in 2n slots 1 - 1/e^.5, that is .39 of the slots, are the first choice of one."""
    keys = np.random.default_rng(0).integers(0, 2**63, (2**14, 3)).astype(np.uint64)
    index = Index(2**14)
    index.add(keys := keys if order == "random" else ordered(2**14, order))
    assert len(index._table) == 2**15 or len(index._table) == 2**16
    expected = 1 - np.exp(-len(keys) / len(index._table))
    assert len(np.unique(index._slots(keys))) / len(index._table) > 0.97 * expected
    assert (index.find(keys) == np.arange(len(keys))).all()


def test_an_answer_takes_few_bytes_beside_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten numbers are 40 bytes; what a ledger holds in memory is less than 100, also while it is read."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    count, file = 30_000, tmp_path / "ledger.bin"
    answers = np.zeros((500, 10), np.float32)

    def write() -> Ledger:
        ledger = Ledger(file, "job", 10)
        for start in range(0, count, 500):
            ledger.append([Question(0, n.to_bytes(16, "big"), 0) for n in range(start, start + 500)], answers)
        return ledger

    written, _ = held(write)
    assert written / count < 100
    read, most = held(lambda: Ledger(file, "job", 10))
    assert read / count < 100 and most < read + 16 * CHUNK


def held(make: Callable[[], Ledger]) -> tuple[int, int]:
    """Bytes that an object holds, and the most that were held while it was made."""
    tracemalloc.start()
    try:
        ledger = make()
        assert len(ledger) == 30_000
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_of_two_answers_to_one_question_the_first_counts(tmp_path: Path) -> None:
    file = tmp_path / "ledger.bin"
    Ledger(file, "job").append(questions(2), ANSWERS[:2])
    header, _, records = file.read_bytes().partition(b"\n")
    other = tmp_path / "other.bin"
    Ledger(other, "job").append(questions(3), ANSWERS[3:6])
    file.write_bytes(header + b"\n" + records + other.read_bytes().partition(b"\n")[2])  # two wrote at once
    again = Ledger(file, "job")
    assert len(again) == 3
    np.testing.assert_array_equal(again.answers, ANSWERS[[0, 1, 5]])


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.bin"
    Ledger(file, "one").append(questions(2), ANSWERS[:2])
    with pytest.raises(LedgerError, match="job one, not of two"):
        Ledger(file, "two")
    for foreign in ("something else\nentirely", "no newline", '{"fmsteal": "result"}'):
        file.write_text(foreign)
        with pytest.raises(LedgerError, match="not a ledger"):
            Ledger(file, "one")
        assert file.read_text() == foreign


def test_a_width_that_changes_and_a_question_paid_twice_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.bin", "job")
    ledger.append(questions(2), ANSWERS[:2])
    with pytest.raises(LedgerError, match="width from 4 to 3"):
        ledger.append(questions(3)[2:], ANSWERS[2:3, :3])
    for paid in ([0], [1], [0, 1], [2, 0]):  # rows of the ledger, and one question that it lacks
        with pytest.raises(LedgerError, match="already holds"):
            ledger.append([questions(3)[row] for row in paid], ANSWERS[paid])
    with pytest.raises(LedgerError, match="shape"):
        ledger.append(questions(3)[2:], ANSWERS[2:5])
    assert len(Ledger(tmp_path / "ledger.bin", "job")) == 2


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.bin", "job")
    ledger.append(questions(2), ANSWERS[:2])
    before = (tmp_path / "ledger.bin").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))  # room for one record of seven
    try:
        with pytest.raises(StoreError, match="No space left"):
            ledger.append(questions(9)[2:], ANSWERS[2:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "ledger.bin").read_bytes() == before and len(ledger) == 2
    ledger.append(questions(9)[2:], ANSWERS[2:])
    np.testing.assert_array_equal(Ledger(tmp_path / "ledger.bin", "job").answers, ANSWERS)


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "ledger.bin", "job"), Ledger(tmp_path / "ledger.bin", "job")
    one.append(questions(2), ANSWERS[:2])
    with pytest.raises(LedgerError, match="Another process is writing"):
        two.append(questions(2), ANSWERS[:2])
    one.append(questions(4)[2:], ANSWERS[2:4])
    assert len(Ledger(tmp_path / "ledger.bin", "job")) == 4


def test_the_ledger_does_not_import_torch() -> None:
    code = "import sys, fmsteal.oracle.ledger, fmsteal.base.rows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
