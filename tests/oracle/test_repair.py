"""Ledgers after damage of any kind: every answer whose record is whole is kept, and the file as it was."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import LedgerError
from fmsteal.oracle.ledger import Ledger, count_paid
from fmsteal.oracle.records import find_whole
from tests.support.questions import ANSWERS, questions

COUNT, WIDTH = 9, 4
SIZE = 24 + 4 + 4 * WIDTH
JOB = "0123456789abcdef against 00ff00ff"
(SEALED,) = (Path(__file__).parents[1] / "support" / "sealed").iterdir()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files are written, which need not reach the disk."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def made(folder: Path, form: str, count: int = COUNT) -> Path:
    """A ledger: ``new``, ``alone`` (the copy of its header is gone), or ``before`` (as an earlier version wrote it)."""
    file = folder / "ledger.bin"
    Ledger(file, JOB).append(questions(count), ANSWERS[:count])
    if form == "before":
        line, _, records = file.read_bytes().partition(b"\n")
        file.write_bytes(re.sub(rb'"header_crc32": \d+, ', b"", line) + b"\n" + records)
    if form != "new":
        file.with_suffix(".head").unlink()
    return file


def head(file: Path) -> int:
    return file.read_bytes().index(b"\n") + 1


FORMS = pytest.mark.parametrize("form", ["new", "alone", "before"])


@FORMS
def test_any_one_flipped_bit_is_put_right(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = made(tmp_path, form, 2)
    content, before = file.read_bytes(), sorted(tmp_path.iterdir())
    for bit in range(0, 8 * len(content), 1 if form == "new" else 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        caplog.clear()
        np.testing.assert_array_equal(Ledger(file, JOB, WIDTH).read(questions(2)), ANSWERS[:2])
        assert file.read_bytes() == content, f"bit {bit}"
        assert [r.getMessage() for r in caplog.records] == [f"{file}: 1 flipped bits are put right"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", ["new", "before"])
def test_a_flip_in_the_header_costs_nothing_where_the_width_is_not_known(form: str, tmp_path: Path) -> None:
    file = made(tmp_path, form, 2)
    content, place = file.read_bytes(), file.read_bytes().index(b'"width": ') + len(b'"width": ')
    for bit in range(8):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        if form == "before" and not chr(damaged[place]).isdigit():
            with pytest.raises(LedgerError, match="nothing tells what it was"):
                Ledger(file, JOB)
            assert file.read_bytes() == damaged
        else:
            np.testing.assert_array_equal(Ledger(file, JOB).read(questions(2)), ANSWERS[:2])
            assert file.read_bytes() == content


def test_flips_in_wide_records_and_before_a_torn_end_are_put_right(tmp_path: Path) -> None:
    file, rng = tmp_path / "ledger.bin", np.random.default_rng(1)
    answers = rng.random((5, 1280)).astype(np.float32)
    Ledger(file, JOB).append(questions(5), answers)
    content = file.read_bytes()
    header, record = head(file), 28 + 4 * 1280
    for _ in range(10):
        damaged = bytearray(content[:-7])
        for row in range(4):
            damaged[header + row * record + int(rng.integers(record))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        np.testing.assert_array_equal(Ledger(file, JOB).answers, answers[:4])
        assert file.read_bytes() == content[: header + 4 * record]


def test_a_record_is_known_by_its_place_or_by_the_one_that_follows(tmp_path: Path) -> None:
    """What is whole by chance lies at no multiple of a record's length, and nothing that is whole follows it."""
    file = made(tmp_path, "new", 4)
    records = bytearray(file.read_bytes()[head(file) :])
    for row in (0, 2):
        records[row * SIZE : (row + 1) * SIZE] = bytes(b ^ 0x55 for b in records[row * SIZE : (row + 1) * SIZE])
    found = [find_whole(bytes(before + records), 1, SIZE, 0) for before in (b"", b"abc")]
    assert found == [SIZE, 3 + 3 * SIZE], "at its place; and the last, as the file ends behind it"
    assert find_whole(bytes(b"abc" + records[: 3 * SIZE]), 1, SIZE, 0) is None


def asides(file: Path) -> Iterator[bytes]:
    for aside in sorted(file.parent.glob("*.damaged-*")):
        yield aside.read_bytes()
        aside.unlink()


@FORMS
def test_a_byte_put_in_anywhere_costs_no_answer(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = made(tmp_path, form)
    content, rng = file.read_bytes(), np.random.default_rng(2)
    for at in [*range(head(file)), *range(head(file), len(content) - SIZE, 7)]:
        damaged = content[:at] + rng.bytes(1 + at % 3) + content[at:]
        file.write_bytes(damaged)
        np.testing.assert_array_equal(Ledger(file, JOB, WIDTH).answers, ANSWERS, err_msg=f"byte {at}")
        assert file.read_bytes() == content and list(asides(file)) == [damaged]
    assert "its header is restored" in caplog.text and "bytes that are no record's are left out" in caplog.text
    assert "records are damaged" not in caplog.text


@FORMS
@pytest.mark.parametrize("rows", [(6, 7, 8), (8,), (0,), (0, 1, 2), (3, 4), (0, 8)], ids=str)
def test_damaged_records_are_left_out_and_the_file_is_kept(
    form: str, rows: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = made(tmp_path, form)
    damaged = bytearray(file.read_bytes())
    for row in rows:
        damaged[head(file) + row * SIZE + 5 : head(file) + row * SIZE + 40] = b"\xaa" * 35
    file.write_bytes(damaged)
    again = Ledger(file, JOB, WIDTH)
    np.testing.assert_array_equal(again.answers, np.delete(ANSWERS, rows, axis=0))
    assert list(asides(file)) == [bytes(damaged)] and f"{len(rows)} records are damaged and left out" in caplog.text
    lost = [questions(COUNT)[row] for row in rows]
    again.append(lost, ANSWERS[list(rows)])
    np.testing.assert_array_equal(Ledger(file, JOB, WIDTH).read(questions(COUNT)), ANSWERS)


KINDS = st.sampled_from(["flip", "put in", "lose", "zero", "swap"])


@given(st.sampled_from(["new", "alone", "before"]), KINDS, st.integers(0, 10**6), st.integers(1, 200))
@example("new", "zero", 0, 200)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_damaged_at_one_place_all_other_answers_stay(
    tmp_path_factory: pytest.TempPathFactory, form: str, kind: str, place: int, length: int
) -> None:
    """Where the header is gone and nothing tells whose the ledger was it is refused, and left as it is."""
    file = made(tmp_path_factory.mktemp("ledger"), form)
    content, begin = file.read_bytes(), head(file)
    at = place % len(content)
    end = min(len(content), at + length)
    filler = np.random.default_rng(place).bytes(length)
    damaged = {
        "flip": content[:at] + bytes([content[at] ^ 1 << length % 8]) + content[at + 1 :],
        "put in": content[:at] + filler + content[at:],
        "lose": content[:at] + content[end:],
        "zero": content[:at] + bytes(end - at) + content[end:],
        "swap": content[:at] + filler[: end - at] + content[end:],
    }[kind]
    rows = range(begin, len(content), SIZE)
    assume(all(damaged != content[:row] + content[row + end - at :] for row in rows))  # nothing tells of whole records
    file.write_bytes(damaged)
    touched = range(at, {"flip": at + 1, "put in": at + 1}.get(kind, end))
    hit = {(byte - begin) // SIZE for byte in touched if byte >= begin}
    try:
        again = Ledger(file, JOB, WIDTH)
    except LedgerError as error:
        says = ["nothing tells what it was"] + ["holds the answers of job"] * (form == "before")  # had no checksum
        assert form != "new" and at < begin and any(words in str(error) for words in says)
        assert file.read_bytes() == damaged
        return
    kept = [row for row in range(COUNT) if questions(COUNT)[row] in again]
    if not (at < begin and len(content) > end > begin + (COUNT - 2) * SIZE):
        assert set(kept) >= set(range(COUNT)) - hit
    np.testing.assert_array_equal(again.answers, ANSWERS[kept])
    if len(kept) < COUNT:
        left = (at - begin) % SIZE + len(content) - end  # of the record that the loss begins in, and behind the loss
        torn = kind == "lose" and (end == len(content) or (at >= begin and left < SIZE))  # as by a kill while writing
        assert torn or list(asides(file)) == [damaged], "answers are gone without a copy"
    assert Ledger(file, JOB, WIDTH).answers.tolist() == again.answers.tolist()


def test_a_lost_header_is_restored_from_the_copy_beside_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = made(tmp_path, "new")
    content, begin = file.read_bytes(), head(file)
    for rest in (content[begin:], b"\0" * begin + content[begin:], b"\xff" * 3 * begin + content[begin:]):
        file.write_bytes(rest)
        assert count_paid(file) == 0
        np.testing.assert_array_equal(Ledger(file, JOB).answers, ANSWERS)
        assert file.read_bytes() == content and list(asides(file)) == [rest]
        assert "its header is restored" in caplog.text


@pytest.mark.parametrize("form", ["alone", "before"])
def test_a_lost_header_without_a_copy_is_refused_and_nothing_is_touched(form: str, tmp_path: Path) -> None:
    file = made(tmp_path, form)
    rest = b"\0" * head(file) + file.read_bytes()[head(file) :]
    file.write_bytes(rest)
    with pytest.raises(LedgerError, match=r"nothing tells what it was; it is kept as it is\. Put back a copy"):
        Ledger(file, JOB, WIDTH)
    assert [f.name for f in tmp_path.iterdir()] == ["ledger.bin"] and file.read_bytes() == rest


def test_another_file_in_its_place_is_refused_in_spite_of_the_copy(tmp_path: Path) -> None:
    file = made(tmp_path, "new")
    for foreign in (b"something else\nentirely", bytes(5000), np.random.default_rng(0).bytes(5000)):
        file.write_bytes(foreign)
        with pytest.raises(LedgerError, match="not a ledger"):
            Ledger(file, JOB, WIDTH)
        assert file.read_bytes() == foreign


def test_a_ledger_of_another_is_never_taken_for_a_damaged_one(tmp_path: Path) -> None:
    file = made(tmp_path, "new")
    other = f"fedcba9876543210{JOB[16:]}"
    for wrong, width, said in ((other, WIDTH, "job 0123"), (JOB, 5, "width from 4 to 5")):
        for form in ("new", "alone", "before"):
            shutil.rmtree(tmp_path)
            file = made(tmp_path, form)
            before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
            with pytest.raises(LedgerError, match=said):
                Ledger(file, wrong, width)
            assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_damaged_copy_of_the_header_does_no_harm_and_is_written_anew(tmp_path: Path) -> None:
    file = made(tmp_path, "new")
    copy = file.with_suffix(".head")
    line = copy.read_bytes()
    assert file.read_bytes().startswith(line)
    for damaged in (b"", line[:-9], line.replace(b"4", b"5"), b"\xff" * 80):
        copy.write_bytes(damaged)
        again = Ledger(file, JOB, WIDTH)
        np.testing.assert_array_equal(again.answers, ANSWERS)
        again.append([questions(1)[0]._replace(nth=len(damaged) + 1)], ANSWERS[:1])
        assert copy.read_bytes() == line
        file.write_bytes(file.read_bytes()[:-SIZE])


def test_a_ledger_that_an_earlier_version_wrote_stays_as_it_is_and_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "ledger.bin"
    shutil.copyfile(SEALED / "ledger.bin", file)
    content = file.read_bytes()
    job = re.search(rb'"job": "([^"]*)"', content)[1].decode()  # type: ignore[index]
    ledger = Ledger(file, job, 10)
    assert len(ledger) == 100 == count_paid(file) and file.read_bytes() == content and b"crc32" not in content[:200]
    ledger.append(questions(3), np.ones((3, 10), np.float32))
    assert file.read_bytes().startswith(content) and len(Ledger(file, job, 10)) == 103
    assert content.startswith(file.with_suffix(".head").read_bytes())
    file.write_bytes(content[200:])
    assert len(Ledger(file, job, 10)) >= 97
