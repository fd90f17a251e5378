"""Paid answers of one victim, as they arrive: each call is noted before it is made, each answer before it is used.

A folder beside the thefts belongs to one victim. In it, each theft appends to a file of its own and reads those of the
others. An image that was answered once is not paid for again, by whichever theft. What was under way when a process
died is found in its file: calls that were noted and have neither an answer nor a note that they cost nothing.

A file is a sequence of records: length, CRC, one line of JSON, and bytes. A partial last record was never used, and is
cut off. After other damage the file is copied aside, and read up to there. Imports no torch.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import LedgerError
from fmsteal.base.store import append, explain_errors, sync

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<II")  # length of a record's content, and its CRC
SUFFIX = ".answers"
Answers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Call:
    """A call of the service that may cost money.

    Attributes:
        key: idempotency key: the same for the same questions, so that a service which knows it charges them once.
        questions: what it asks about, a key of 32 hex digits for each image.
        purpose: what the answers are for, as in `Calls`.
    """

    key: str
    questions: tuple[str, ...]
    purpose: str = "attack"


@dataclass(frozen=True)
class Unsettled:
    """A call of an earlier process without an answer that was understood.

    Attributes:
        number: its place in the file.
        call: the call.
        body: the service's answer, if one arrived that could not be understood then.
    """

    number: int
    call: Call
    body: bytes | None = None


class AnswerLog:
    """The answers that a theft may use, and the calls that it makes. One process writes for one account."""

    def __init__(self, folder: Path, account: str) -> None:
        """Read what is in the folder; ``account`` names the file that is written.

        Raises:
            StoreError: the folder may not be read, or a damaged file cannot be copied aside.
        """
        self.folder = folder
        self.path = folder / f"{account}{SUFFIX}"
        self._rows: dict[str, Answers] = {}
        self._read: dict[Path, int] = {}  # bytes read of each file
        self._others: dict[Path, list[tuple[str, ...]]] = {}  # the questions of each call in the others' files
        self._calls: dict[int, Unsettled] = {}  # calls without an answer, in this account's file
        self._next = 0
        self._paid: Counter[str] = Counter()
        with explain_errors(folder):
            self._load_own()
            self.refresh()
        self.left = list(self._calls.values())  # of earlier processes

    @property
    def width(self) -> int | None:
        """The number of values in an answer; None if there is none yet."""
        return next((len(row) for row in self._rows.values()), None)

    @property
    def unsettled(self) -> int:
        """The number of images in calls of this account that may have been paid for, without an answer."""
        return sum(len(each.call.questions) for each in self._calls.values())

    def count_paid(self, *purposes: str) -> int:
        """The number of images that this account has got answers for, for these purposes."""
        return sum(self._paid[purpose] for purpose in purposes)

    def __contains__(self, question: str) -> bool:
        return question in self._rows

    def read(self, questions: Sequence[str]) -> Answers:
        """The answers to these questions, float32 ``(n, width)``; KeyError if one has none."""
        return np.stack([self._rows[question] for question in questions])

    def refresh(self) -> None:
        """Read what other accounts have written since."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path != self.path:
                self._load_other(path)

    def note(self, call: Call) -> int:
        """Note a call before it is made, on the disk; return its number."""
        number = self._next
        about = {"kind": "call", "key": call.key, "questions": call.questions, "purpose": call.purpose}
        self._append(about)
        self._calls[number] = Unsettled(number, call)
        self._next += 1
        return number

    def answer(self, number: int, rows: Answers, of: Sequence[int] | None = None, *, paid_rest: bool = False) -> None:
        """Keep the answers to a call, float32 ``(n, width)``, in the order of its questions; on the disk on return.

        Args:
            number: the call's.
            rows: the answers.
            of: places of the questions that were answered; None: all.
            paid_rest: whether the other questions may have been paid for all the same.

        Raises:
            LedgerError: the number of rows is not that of the questions, or the width is not that of earlier answers.
        """
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        questions = _pick(self._calls[number].call.questions, of)
        if rows.ndim != 2 or len(rows) != len(questions) or self.width not in (None, rows.shape[1]):
            raise LedgerError(f"Answers of shape {rows.shape} for {len(questions)} images of width {self.width}.")
        about: dict[str, Any] = {"kind": "answer", "call": number, "width": rows.shape[1]}
        if of is not None:
            about |= {"of": [int(place) for place in of], "paid_rest": paid_rest}
        self._append(about, rows.tobytes())
        self._settle(number, rows, of, paid_rest)

    def keep(self, number: int, body: bytes) -> None:
        """Keep an answer that cannot be understood: it was paid for, and a corrected config may read it."""
        self._append({"kind": "body", "call": number}, body)
        self._calls[number] = Unsettled(number, self._calls[number].call, body)

    def void(self, number: int) -> None:
        """Note that a call has certainly cost nothing."""
        self._append({"kind": "void", "call": number})
        del self._calls[number]

    def _settle(self, number: int, rows: Answers, of: Sequence[int] | None, paid_rest: bool) -> None:
        call = self._calls.pop(number).call
        questions = _pick(call.questions, of)
        self._rows.update(zip(questions, rows, strict=True))
        self._paid[call.purpose] += len(rows)
        rest = tuple(question for question in call.questions if question not in set(questions))
        if paid_rest and rest:
            self._calls[number] = Unsettled(number, replace(call, questions=rest))

    def _append(self, about: dict[str, Any], data: bytes = b"") -> None:
        content = json.dumps(about).encode() + b"\n" + data
        record = _HEAD.pack(len(content), zlib.crc32(content)) + content
        size = self._read.get(self.path, 0)
        with explain_errors(self.folder):
            if not append(self.path, record, size):
                raise LedgerError(f"Another process is writing to {self.path}; this one stops before it pays twice.")
        self._read[self.path] = size + len(record)

    def _load_own(self) -> None:
        data = self.path.read_bytes() if self.path.is_file() else b""
        end = 0
        for at, about, rest in _records(data):
            self._replay(about, rest)
            end = at
        if end < len(data):
            if not _is_torn(data, end):
                aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
                shutil.copyfile(self.path, aside)
                sync(aside)
                log.warning("%s is damaged; the file as it was is %s", self.path, aside)
            os.truncate(self.path, end)
        self._read[self.path] = end

    def _replay(self, about: dict[str, Any], rest: bytes) -> None:
        if about["kind"] == "call":
            call = Call(about["key"], tuple(about["questions"]), about["purpose"])
            self._calls[self._next] = Unsettled(self._next, call)
            self._next += 1
            return
        number = about["call"]
        if about["kind"] == "answer":
            rows = np.frombuffer(rest, np.float32).reshape(-1, about["width"])
            self._settle(number, rows, about.get("of"), about.get("paid_rest", False))
        elif about["kind"] == "body":
            self._calls[number] = Unsettled(number, self._calls[number].call, rest)
        else:
            del self._calls[number]

    def _load_other(self, path: Path) -> None:
        """Read the new answers in the file of another account, which may grow."""
        begin, questions = self._read.get(path, 0), self._others.setdefault(path, [])
        if path.stat().st_size == begin:
            return
        with path.open("rb") as stream:
            stream.seek(begin)
            data = stream.read()
        end = 0
        for at, about, rest in _records(data):
            end = at
            if about["kind"] == "call":
                questions.append(tuple(about["questions"]))
            elif about["kind"] == "answer":
                rows = np.frombuffer(rest, np.float32).reshape(-1, about["width"])
                answered = _pick(questions[about["call"]], about.get("of"))
                for question, row in zip(answered, rows, strict=True):
                    self._rows.setdefault(question, row)
        self._read[path] = begin + end


def _pick(questions: tuple[str, ...], of: Sequence[int] | None) -> tuple[str, ...]:
    """The questions at these places; all of them for None."""
    return questions if of is None else tuple(questions[place] for place in of)


def _records(data: bytes) -> Iterator[tuple[int, dict[str, Any], bytes]]:
    """The sound records from the beginning: where each ends, its line of JSON, its bytes."""
    at = 0
    while len(data) - at >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, at)
        content = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(content) < length or zlib.crc32(content) != crc:
            return
        at += _HEAD.size + length
        line, _, rest = content.partition(b"\n")
        yield at, json.loads(line), rest


def _is_torn(data: bytes, end: int) -> bool:
    """Whether what follows the sound records is the beginning of one that was never finished."""
    left = len(data) - end
    return left < _HEAD.size or left < _HEAD.size + int(_HEAD.unpack_from(data, end)[0])
