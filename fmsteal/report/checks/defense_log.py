"""Checks a defense's log row by row: every checksum, and the sums of charges, delays, refusals and flags."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.ledger import Book

FRAME = struct.Struct("<III")  # length, its checksum, the content's
FIXED = struct.Struct("<24sdddBH")  # question (client, nth, image), clock, usd, seconds, bits, number of flags
FLAG = struct.Struct("<Hd")
SUMS = ("cost/defense_usd", "cost/delay_seconds", "cost/refused")


def check_log(file: Path, book: Book | None, cost: Mapping[str, Any], found: Findings) -> None:
    """Compare the log of a sealed theft with its ledger and with its cost."""
    name = file.name
    line, _, content = file.read_bytes().partition(b"\n")
    with found.reading(name):
        header = json.loads(line)
        found.require(book is None or header["job"] == book.whose, name, "is of another job or victim than the ledger")
        sums = _sums(content, set(book.questions if book else ()), name, found)
        due = {key: value for key, value in cost.items() if key in SUMS or key.startswith("cost/flags/")}
        for key in sorted({*sums, *due}):
            if not math.isclose(sums[key], due.get(key, 0.0), rel_tol=1e-9, abs_tol=1e-9):
                found.add(name, f"its rows add up to {key} {sums[key]:g}, theft.json says {due.get(key, 0.0):g}")


def _sums(content: bytes, answered: set[bytes], name: str, found: Findings) -> Counter[str]:
    """The sums over the last row of each question that was answered or refused."""
    rows: dict[bytes, dict[str, float]] = {}
    at = number = 0
    while at < len(content):
        number += 1
        length, of_length, of_content = FRAME.unpack_from(content, at)
        packed = content[at + FRAME.size : at + FRAME.size + length]
        if zlib.crc32(content[at : at + 4]) != of_length or zlib.crc32(packed) != of_content:
            found.add(name, f"row {number} does not match its checksum")
            break
        at += FRAME.size + length
        question, _, usd, seconds, bits, flags = FIXED.unpack_from(packed)
        if not bits & 1 and question not in answered:
            continue
        rows[question] = {SUMS[0]: usd, SUMS[1]: seconds, SUMS[2]: bits & 1}
        place = FIXED.size
        for _ in range(flags):
            size, value = FLAG.unpack_from(packed, place)
            place += FLAG.size + size
            rows[question][f"cost/flags/{packed[place - size : place].decode()}"] = value
    total: Counter[str] = Counter()
    for row in rows.values():
        for key, value in row.items():
            total[key] += value  # type: ignore[assignment]
    return total
