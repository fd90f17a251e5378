"""The first line of a ledger: the account its answers belong to, their width, and the line's own checksum.

Ledgers of earlier versions, whose header has no checksum, can be read too.
"""

from __future__ import annotations

import json
import zlib
from difflib import SequenceMatcher
from typing import Any, NamedTuple

SCHEMA = 1
WIDEST = 2**24  # largest number of values in an answer
SLIPS = 4  # bytes of a header that may be lost or changed for it still to be recognised
_BEGIN = b'{"fmsteal": "ledger", '
_CRC = "header_crc32"


class Header(NamedTuple):
    """The content of a header.

    Attributes:
        job: the account that the answers belong to.
        width: number of values in an answer.
        schema: schema version of the file.
        proven: whether the header has a checksum, which matches.
    """

    job: str
    width: int
    schema: int
    proven: bool


def spell(job: str, width: int, checked: bool = True) -> bytes:
    """The line with its checksum; if not ``checked``, as an earlier version wrote it."""
    known: dict[str, Any] = {"fmsteal": "ledger", "schema": SCHEMA, "job": job, "width": width}
    return _line(known | {_CRC: _checksum(known)} if checked else known)


def parse(line: bytes) -> Header | None:
    """Parse a line; None if it is not a header exactly as written here, or does not match its checksum."""
    try:
        known = json.loads(line)
        if known["fmsteal"] != "ledger" or line != _line(known):
            return None
        crc = known.pop(_CRC, None)
        job, width, schema = known["job"], known["width"], known["schema"]
    except (ValueError, KeyError, TypeError):
        return None
    if not (isinstance(job, str) and type(width) is type(schema) is int and 0 <= width <= WIDEST):
        return None
    if crc != _checksum(known) if crc is not None else len(known) != 4:
        return None
    return Header(job, width, schema, crc is not None)


def is_torn(content: bytes, job: str) -> bool:
    """Whether a file holds only the beginning of a header: it was cut off before the first answer."""
    most = len(spell(job, 10**9))
    return len(content) < most and b"\n" not in content and (_BEGIN.startswith(content) or content.startswith(_BEGIN))


def is_like(content: bytes, line: bytes) -> bool:
    """Whether a file begins with this line, except for a few bytes changed, lost or inserted."""
    matcher = SequenceMatcher(None, content[: len(line) + SLIPS], line, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) >= len(line) - SLIPS


def _line(known: dict[str, Any]) -> bytes:
    return json.dumps(known, sort_keys=True).encode() + b"\n"


def _checksum(known: dict[str, Any]) -> int:
    return zlib.crc32(_line(known))
