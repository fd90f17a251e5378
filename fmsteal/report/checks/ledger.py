"""Checks a ledger record by record: every checksum, no question twice, and plausible answers."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.report.checks.findings import Findings

QUESTION, BEFORE = 24, 28  # bytes of client, nth and image, without and with the checksum
SUM = 1e-3  # how far the sum of probabilities may be from 1


@dataclass(frozen=True)
class Book:
    """What a ledger holds.

    Attributes:
        whose: the job and victim that its header names.
        width: how many numbers an answer has.
        questions: the bytes of client, nth and image digest of each question, in order.
        answers: float32, ``(len(questions), width)``.
    """

    whose: str
    width: int
    questions: list[bytes]
    answers: npt.NDArray[np.float32]


def read_ledger(file: Path, found: Findings) -> Book | None:
    """All records of a ledger; their faults are noted. None if it has no valid header."""
    name = file.name
    line, _, content = file.read_bytes().partition(b"\n")
    try:
        header: dict[str, Any] = json.loads(line)
        whose, width = str(header["job"]), int(header["width"])
        size = BEFORE + 4 * width
        if header["fmsteal"] != "ledger" or width < 0:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        found.add(name, "has no header of a ledger")
        return None
    if "header_crc32" in header:
        crc = header.pop("header_crc32")
        text = json.dumps(header, sort_keys=True) + "\n"
        found.require(crc == zlib.crc32(text.encode()), name, "its header does not match its checksum")
    rows, rest = divmod(len(content), size)
    found.require(not rest, name, f"ends with {rest} bytes that are no whole record")
    records = [content[row * size : (row + 1) * size] for row in range(rows)]
    for row, record in enumerate(records):
        crc = zlib.crc32(record[BEFORE:], zlib.crc32(record[:QUESTION]))
        if crc != int.from_bytes(record[QUESTION:BEFORE], "little"):
            found.add(name, f"record {row + 1} does not match its checksum")
    questions = [record[:QUESTION] for record in records]
    if twice := rows - len(set(questions)):
        found.add(name, f"{twice} questions are answered twice")
    table = np.frombuffer(content[: rows * size], np.uint8).reshape(rows, size)
    answers = np.ascontiguousarray(table[:, BEFORE:]).view("<f4").reshape(rows, width)
    found.require(bool(np.isfinite(answers).all()), name, "holds answers that are not finite")
    found.counted.update({"ledgers": 1, "answers": rows})
    return Book(whose, width, questions, answers)


def require_probabilities(book: Book, name: str, found: Findings) -> None:
    """Make sure that answers are those of an undefended API: probabilities that add up to 1."""
    sums = book.answers.astype(np.float64).sum(1)
    if len(sums) and (book.answers.min() < 0 or np.abs(sums - 1).max() > SUM):
        found.add(name, "holds answers that are no probabilities, and nothing defends the API")
