"""What a defense records beside each answer: its state, charges, delays, flags and refusals. Imports no torch.

One file: a header line of JSON, then a record for each question: three numbers (length, the length's CRC32, the
content's CRC32), then the content. It is written before the ledger is. A truncated record at the end is dropped, as are
records at the end whose answers did not reach the ledger; a file with any other damage is refused.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fmsteal.base.errors import LedgerError
from fmsteal.base.store import append, explain_errors
from fmsteal.oracle.ledger import Ledger, Question

SCHEMA = 1
_FRAME = struct.Struct("<III")
_FIXED = struct.Struct("<ii16sdddBH")  # client, nth, image, now, usd, seconds, bits, flags
_FLAG = struct.Struct("<Hd")
_REFUSED, _LOGGED = 1, 2


class LogRow(NamedTuple):
    """One question, and how the defense handled it.

    Attributes:
        question: who asked about which image, and how often before.
        now: the simulated clock when the question was asked, in seconds.
        usd: US dollars charged on top of the budget's price.
        seconds: delay in seconds.
        refused: whether the question was refused; then the ledger holds no answer to it.
        flags: flag values by name.
        log: bytes for the guard's ``fold``; None if the guard logged nothing.
    """

    question: Question
    now: float
    usd: float
    seconds: float
    refused: bool
    flags: Mapping[str, float]
    log: bytes | None


class DefenseLog:
    """The log of one theft's defense; the file exists once the defense has something to record."""

    def __init__(self, path: Path, job: str, defense: str) -> None:
        """Name the log; `replay` reads it.

        Args:
            path: the file.
            job: the account that the log belongs to, as in the theft's ledger.
            defense: the defense's name.
        """
        self.path = path
        self._header = {"fmsteal": "defense log", "schema": SCHEMA, "job": job, "defense": defense}
        self._size = 0

    def replay(self, ledger: Ledger) -> list[LogRow]:
        """The rows that count, in order: those of questions that were answered or refused.

        A row whose question has no answer belongs to a block that was never handed out. At the end of the file such
        rows are cut off, with all that follow. If a question has two rows, the later one counts.

        Raises:
            LedgerError: the file is damaged, or belongs to another theft or defense; it is left as it is.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        rows, ends = self._read()
        answered = ledger.find([row.question for row in rows]) >= 0
        lacking = [place for place, row in enumerate(rows) if not (row.refused or answered[place])]
        settled = int(answered.nonzero()[0].max(initial=-1))
        count = min((place for place in lacking if place > settled), default=len(rows))
        self._size = ends[count]
        if self.path.stat().st_size != self._size:
            os.truncate(self.path, self._size)
        last = {rows[place].question: place for place in range(count)}
        kept = set(last.values()).difference(lacking)
        return [rows[place] for place in range(count) if place in kept]

    def append(self, rows: Sequence[LogRow]) -> None:
        """Append rows; return once they are on the disk.

        Raises:
            LedgerError: another process writes to the file.
            StoreError: the disk is full or the folder read-only. The log keeps what it had.
        """
        data = b"".join(_framed(_packed(row)) for row in rows)
        if self._size == 0:
            data = self._line() + data
        with explain_errors(self.path.parent):
            if not append(self.path, data, self._size):
                raise LedgerError(f"Another process is writing to {self.path}; this one stops.")
        self._size += len(data)

    def _line(self) -> bytes:
        return json.dumps(self._header, sort_keys=True).encode() + b"\n"

    def _read(self) -> tuple[list[LogRow], list[int]]:
        """All complete rows, the offset of each, and the end of the last."""
        content, line = self.path.read_bytes(), self._line()
        if line.startswith(content):  # killed while writing the very first row
            return [], [0]
        if not content.startswith(line):
            raise self._foreign(content.partition(b"\n")[0])
        rows, ends, at = [], [len(line)], len(line)
        while at + _FRAME.size <= len(content):
            length, of_length, of_content = _FRAME.unpack_from(content, at)
            if zlib.crc32(content[at : at + 4]) != of_length:
                raise self._damaged(at)
            packed = content[at + _FRAME.size : at + _FRAME.size + length]
            if len(packed) < length:
                break
            if zlib.crc32(packed) != of_content:
                raise self._damaged(at)
            at += _FRAME.size + length
            rows.append(_unpacked(packed))
            ends.append(at)
        return rows, ends

    def _foreign(self, line: bytes) -> LedgerError:
        try:
            header = json.loads(line)
            whose = f"is the log of {header['defense']} in job {header['job']}"
        except (ValueError, KeyError, TypeError):
            return self._damaged(0)
        own = f"{self._header['defense']} in job {self._header['job']}"
        return LedgerError(f"{self.path} {whose}, not of {own}. Choose another output folder (output=...).")

    def _damaged(self, at: int) -> LedgerError:
        return LedgerError(
            f"{self.path} is damaged (byte {at}): what the defense remembers cannot be told from it. It is left as it "
            "is. Put back a copy, or do the job again: force=true."
        )


def _framed(packed: bytes) -> bytes:
    length = len(packed).to_bytes(4, "little")
    return _FRAME.pack(len(packed), zlib.crc32(length), zlib.crc32(packed)) + packed


def _packed(row: LogRow) -> bytes:
    client, image, nth = row.question
    bits = _REFUSED * row.refused + _LOGGED * (row.log is not None)
    fixed = _FIXED.pack(client, nth, image, row.now, row.usd, row.seconds, bits, len(row.flags))
    names = [(name.encode(), value) for name, value in row.flags.items()]
    flags = b"".join(_FLAG.pack(len(name), value) + name for name, value in names)
    return fixed + flags + (row.log or b"")


def _unpacked(packed: bytes) -> LogRow:
    client, nth, image, now, usd, seconds, bits, count = _FIXED.unpack_from(packed)
    at, flags = _FIXED.size, {}
    for _ in range(count):
        length, value = _FLAG.unpack_from(packed, at)
        at += _FLAG.size + length
        flags[packed[at - length : at].decode()] = value
    log = packed[at:] if bits & _LOGGED else None
    return LogRow(Question(client, image, nth), now, usd, seconds, bool(bits & _REFUSED), flags, log)
