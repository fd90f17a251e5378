"""The append-only record of every answer paid for. Imports no torch.

One file: a header line of JSON, then fixed-width records ``(client, nth, image digest, crc, answer)``. A record is on
the disk before the attack sees its answer. A run resumed after a kill opens its ledger again and asks the same
questions; recorded answers are replayed, not paid for twice. A partial record at the end (its answer was never handed
out) is dropped. A single flipped bit is corrected. After other damage a copy of the file is kept, and all intact
records are recovered, wherever they lie; a second copy of the header lies beside the file.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import LedgerError
from fmsteal.base.store import append, explain_errors, sync
from fmsteal.oracle.header import SCHEMA, Header, is_torn, parse, spell
from fmsteal.oracle.index import Index, grow, keys_of
from fmsteal.oracle.records import CHUNK, KEY, Records, bytes_of, checksums, kind_of
from fmsteal.oracle.repair import Repaired, repair
from fmsteal.records.folders import LEDGER_HEAD

log = logging.getLogger(__name__)

_LONGEST = 2**16  # bytes of a header
Answers = npt.NDArray[np.float32]


class Question(NamedTuple):
    """Who asked, about which image (16-byte digest of its content), and how often before (0: never)."""

    client: int
    image: bytes
    nth: int


class Ledger:
    """The answers of one theft. Its length is the number of queries paid for."""

    def __init__(self, path: Path, job: str, width: int | None = None) -> None:
        """Open a ledger or begin one; ``job`` is the account that its answers belong to.

        If the ``width`` of its answers is given, a flipped bit in the header can be corrected too.

        Raises:
            LedgerError: the file holds the answers of another account, or is not a ledger.
            StoreError: the file may not be read, or cannot be repaired.
        """
        self.path = path
        self.job = job
        self._index = Index()
        self._width = width
        self._answers: Answers = np.empty((0, width or 0), np.float32)
        self._size = 0
        self._line = b""  # the header as it is in the file
        self._is_copied = False
        with explain_errors(path.parent):
            if path.exists() and path.stat().st_size:
                self._load()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, question: Question) -> bool:
        return bool(self.find([question])[0] >= 0)

    def __iter__(self) -> Iterator[Question]:
        """The questions, in the order they were answered."""
        key = np.dtype([("client", "<i4"), ("nth", "<i4"), ("image", "V16")])
        for client, nth, image in self._index.keys.view(key)[:, 0].tolist():
            yield Question(client, bytes(image), nth)

    @property
    def answers(self) -> Answers:
        """All answers in the order they were paid for, shape ``(len(self), D)``."""
        return self._answers[: len(self)].copy()

    def find(self, questions: Sequence[Question]) -> npt.NDArray[np.int64]:
        """The row of each question in `answers`, ``(n,)``; -1 if it was not answered."""
        return self._index.find(keys_of(questions))

    def read(self, questions: Sequence[Question]) -> Answers:
        """The recorded answers to ``questions``, shape ``(n, D)``; KeyError if one has no answer."""
        rows = self.find(questions)
        if (rows < 0).any():
            raise KeyError(questions[int(rows.argmin())])
        return self._answers[rows]

    def append(self, questions: Sequence[Question], answers: Answers) -> None:
        """Record answers, shape ``(n, D)``; return once they are on the disk.

        Raises:
            LedgerError: the width differs from that of earlier answers, or a question was answered before.
            StoreError: the disk is full or the folder read-only. The ledger keeps what it had.
        """
        answers = np.ascontiguousarray(answers, dtype=np.float32)
        if answers.ndim != 2 or len(answers) != len(questions):
            raise LedgerError(f"{len(questions)} questions, but answers of shape {answers.shape}.")
        if self._width is not None and answers.shape[1] != self._width:
            raise LedgerError(
                f"The API's answers changed width from {self._width} to {answers.shape[1]}; "
                f"{self.path} is kept as it is."
            )
        keys = keys_of(questions)
        twice = np.flatnonzero(self._index.find(keys) >= 0)
        if len(twice) or len(set(questions)) != len(questions):
            which = questions[twice[0]] if len(twice) else "one of these questions"
            raise LedgerError(f"{self.path} already holds an answer to {which}.")
        records = np.zeros(len(questions), dtype=kind_of(answers.shape[1]))
        bytes_of(records)[:, :KEY] = keys.view(np.uint8).reshape(-1, KEY)
        records["answer"] = answers
        records["crc"] = checksums(records)
        with explain_errors(self.path.parent):
            self._write(answers.shape[1], records.tobytes())
        self._width = answers.shape[1]
        self._remember(keys, answers)

    def _write(self, width: int, data: bytes) -> None:
        line = self._line or spell(self.job, width)
        if not self._is_copied and self._copied() != line:  # also for a ledger begun by an earlier version
            self.path.parent.mkdir(parents=True, exist_ok=True)
            head = self.path.with_suffix(LEDGER_HEAD)
            head.write_bytes(line)  # in place: a torn copy does not parse, and is rewritten before the next answer
            sync(head)
        self._is_copied = True
        if self._size == 0:
            data, self._line = line + data, line
        if not append(self.path, data, self._size):
            raise self._not_alone()
        self._size += len(data)

    def _not_alone(self) -> LedgerError:
        return LedgerError(f"Another process is writing to {self.path}; this one stops before it answers twice.")

    def _load(self) -> None:
        with self.path.open("rb") as stream:
            line = stream.readline(_LONGEST)
        if is_torn(line, self.job) and self.path.stat().st_size == len(line):
            os.truncate(self.path, 0)  # killed while writing the very first answer
            return
        header = parse(line)
        own = header if header is not None and (header.job, header.schema) == (self.job, SCHEMA) else None
        if own is not None and self._width in (None, own.width) and self._read(line, own.width):
            return
        if header is not None and header.proven:
            self._require(header)
        found = repair(self.path.read_bytes(), own, self.job, self._width, self._copied())
        if found is None:
            self._require(header)
            raise AssertionError
        if self._width not in (None, found.width):
            raise self._changed(found.width)
        self._put_right(found)
        self._read(found.line, found.width)

    def _read(self, line: bytes, width: int) -> bool:
        """Read the records in chunks; False if one is damaged. A partial record at the end is cut off."""
        kind, begin = kind_of(width), len(line)
        with self.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            left = (size - begin) // kind.itemsize
            index, answers = Index(left), np.empty((left, width), np.float32)
            stream.seek(begin)
            while left:
                records = np.fromfile(stream, kind, min(left, max(1, CHUNK // kind.itemsize)))
                if not len(records) or (checksums(records) != records["crc"]).any():
                    return False
                left -= len(records)
                row, new = len(index), index.add(keys_in(records))  # if two processes wrote, the first record counts
                answers[row : len(index)] = records["answer"][new]
            self._size = size - (size - begin) % kind.itemsize
        if self._size < size:
            os.truncate(self.path, self._size)
        self._index, self._answers, self._width, self._line = index, answers, width, line
        return True

    def _put_right(self, found: Repaired) -> None:
        """Rewrite a damaged file. If more than single bits were damaged, a copy of it is kept under another name.

        The questions of lost records will be asked again.
        """
        if found.damage:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            with explain_errors(self.path.parent):
                shutil.copyfile(self.path, aside)
                sync(aside)
            log.warning("%s: %s; the file as it was is %s", self.path, ", ".join(found.damage), aside)
        if found.flips:
            log.warning("%s: %d flipped bits are put right", self.path, found.flips)
        with explain_errors(self.path.parent):
            fresh = self.path.with_name(f".{self.path.name}.tmp")
            fresh.write_bytes(found.line + found.records.data)
            sync(fresh)
            fresh.replace(self.path)
            sync(self.path.parent)

    def _require(self, header: Header | None) -> None:
        """Check that a header belongs to this ledger.

        Raises:
            LedgerError: the header does not; the message says why.
        """
        if header is None:
            raise LedgerError(
                f"{self.path} is not a ledger, or its header is damaged and nothing tells what it was; it is kept as "
                "it is. Put back a copy, move it away, or choose another output folder (output=...)."
            )
        if header.schema > SCHEMA:
            raise LedgerError(f"{self.path} was written by a newer fmsteal (schema {header.schema}).")
        if header.job != self.job:
            raise LedgerError(
                f"{self.path} holds the answers of job {header.job}, not of {self.job}. "
                "Choose another output folder (hydra.run.dir=...) or remove this one."
            )
        if self._width not in (None, header.width):
            raise self._changed(header.width)

    def _changed(self, width: int) -> LedgerError:
        return LedgerError(
            f"The API's answers changed width from {width} to {self._width}; {self.path} is kept as it is."
        )

    def _copied(self) -> bytes:
        """The copy of the header beside the file; empty if it is missing or damaged."""
        try:
            line = self.path.with_suffix(LEDGER_HEAD).read_bytes()
        except OSError:
            return b""
        header = parse(line)
        return line if header is not None and (header.job, header.schema) == (self.job, SCHEMA) else b""

    def _remember(self, keys: npt.NDArray[np.uint64], answers: Answers) -> None:
        begin = len(self)
        self._index.add(keys)
        if self._answers.shape[1] != answers.shape[1]:
            self._answers = np.empty((0, answers.shape[1]), np.float32)
        self._answers = grow(self._answers, begin, len(answers))
        self._answers[begin : len(self)] = answers


def count_paid(path: Path) -> int:
    """How many answers a ledger holds, by its size. It only reads, as a job may be writing to the file."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(_LONGEST)
            header = parse(line) if line.endswith(b"\n") else None
            size = os.fstat(stream.fileno()).st_size
    except OSError:
        return 0
    return 0 if header is None else max(0, size - len(line)) // kind_of(header.width).itemsize


def keys_in(records: Records) -> npt.NDArray[np.uint64]:
    """The keys of records, ``(n, 3)``."""
    return np.ascontiguousarray(bytes_of(records)[:, :KEY]).view(np.uint64)
