"""The record of paid answers: nothing that reached the disk is lost, whatever the end of the file looks like."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import LedgerError
from fmsteal.victims.answer_log import AnswerLog, Call

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(folder: Path) -> AnswerLog:
    """One answered call, one without an answer, one that cost nothing, one whose answer could not be read."""
    log = AnswerLog(folder, "a")
    log.answer(log.note(Call("k1", ("q1", "q2"))), ROWS)
    log.note(Call("k2", ("q3",)))
    log.void(log.note(Call("k3", ("q4",))))
    log.keep(log.note(Call("k4", ("q5", "q6"), "measurement")), b'{"x": 1}')
    return log


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    for log in (write(tmp_path), AnswerLog(tmp_path, "a")):
        np.testing.assert_array_equal(log.read(["q2", "q1"]), ROWS[::-1])
        assert log.unsettled == 3 and log.count_paid("attack") == 2 and "q3" not in log and log.width == 3
    assert [(left.call.key, left.body) for left in log.left] == [("k2", None), ("k4", b'{"x": 1}')]
    log.answer(log.left[1].number, ROWS)
    again = AnswerLog(tmp_path, "a")
    assert "q6" in again and again.count_paid("attack", "measurement") == 4 and again.unsettled == 1


def test_of_a_call_that_was_answered_in_part_the_rest_is_free_or_unconfirmed(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "a")
    log.answer(log.note(Call("k1", ("q1", "q2", "q3"))), ROWS, [2, 0])
    log.answer(log.note(Call("k2", ("q4", "q5", "q6"))), ROWS[:1], [1], paid_rest=True)
    for known in (log, AnswerLog(tmp_path, "a"), AnswerLog(tmp_path, "b")):
        np.testing.assert_array_equal(known.read(["q3", "q1", "q5"]), ROWS[[0, 1, 0]])
        assert not [name for name in ("q2", "q4", "q6") if name in known]
    again = AnswerLog(tmp_path, "a")
    assert [left.call.questions for left in again.left] == [("q4", "q6")] and again.unsettled == log.unsettled == 2
    assert again.count_paid("attack") == 3


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_end_is_cut_off_and_written_on(cut: int, tmp_path: Path) -> None:
    log = write(tmp_path)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-cut])
    again = AnswerLog(tmp_path, "a")
    assert "q2" in again and [left.body for left in again.left] == [None, None]
    again.answer(again.note(Call("k5", ("q7",))), ROWS[:1])
    assert "q7" in AnswerLog(tmp_path, "a") and not list(tmp_path.glob("*.damaged-*"))


def test_a_damaged_file_is_copied_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = write(tmp_path)
    data = bytearray(log.path.read_bytes())
    data[len(data) // 2] ^= 1
    log.path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        again = AnswerLog(tmp_path, "a")
    (aside,) = tmp_path.glob("*.damaged-*")
    assert "q1" in again and aside.read_bytes() == bytes(data) and str(aside) in caplog.text


def test_accounts_read_each_other_while_they_write(tmp_path: Path) -> None:
    mine, theirs = AnswerLog(tmp_path, "a"), AnswerLog(tmp_path, "b")
    number = theirs.note(Call("k", ("q1", "q2")))
    mine.refresh()
    assert "q1" not in mine
    theirs.answer(number, ROWS)
    mine.refresh()
    np.testing.assert_array_equal(mine.read(["q1"]), ROWS[:1])
    assert mine.count_paid("attack") == 0 and not AnswerLog(tmp_path, "c").left
    with pytest.raises(LedgerError, match="Answers of shape"):
        mine.answer(mine.note(Call("k", ("q3",))), ROWS[:, :2])


def test_two_writers_of_one_account_are_noticed(tmp_path: Path) -> None:
    one, other = AnswerLog(tmp_path, "a"), AnswerLog(tmp_path, "a")
    one.note(Call("k", ("q",)))
    with pytest.raises(LedgerError, match="this one stops before it pays twice"):
        other.note(Call("k", ("q",)))
