"""Repairs a damaged ledger: finds out its header, where its records begin, and which of them are intact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fmsteal.oracle.flips import differ_in_one_bit
from fmsteal.oracle.header import Header, is_like, parse, spell
from fmsteal.oracle.records import Salvage, find_whole, kind_of, salvage, width_of

SOUGHT = 2**14  # largest width that is tried when the width is lost


class Repaired(NamedTuple):
    """A repaired ledger.

    Attributes:
        line: the header line.
        width: number of values in an answer.
        records: the recovered records.
        flipped: whether a single bit of the header was corrected.
        restored: whether more of the header was restored.
    """

    line: bytes
    width: int
    records: Salvage
    flipped: bool
    restored: bool

    @property
    def flips(self) -> int:
        """The number of bits that were corrected."""
        return self.flipped + self.records.flips

    @property
    def damage(self) -> list[str]:
        """Damage beyond single flipped bits, in words."""
        said = {
            "its header is restored": self.restored,
            f"bytes that are no record's are left out in {self.records.strays} places": self.records.strays,
            f"{self.records.lost} records are damaged and left out": self.records.lost,
        }
        return [words for words, there in said.items() if there]


def repair(content: bytes, header: Header | None, job: str, width: int | None, copy: bytes) -> Repaired | None:
    """Reconstruct a damaged file; None if nothing shows that it was a ledger of this job.

    Args:
        content: content of the file.
        header: its parsed first line; None if that is not a header of this job.
        job: the account that its answers should belong to.
        width: number of values in an answer, if known.
        copy: the copy of its header beside the file; may be empty.
    """
    line = content[: content.find(b"\n") + 1]
    if header is not None and (header.proven or _holds(content, len(line), header.width)):
        return Repaired(line, header.width, salvage(content, len(line), header.width), False, False)
    for due in _due(job, width, copy):
        if repaired := _repair_as(content, due, kept=due == copy):
            return repaired
    if header is None:
        return None
    sought = width_of(content, len(line), SOUGHT)
    if sought is None:
        return Repaired(line, header.width, salvage(content, len(line), header.width), False, False)
    due = spell(job, sought, checked=False)
    flipped = differ_in_one_bit(line, due)
    return Repaired(due, sought, salvage(content, len(line), sought), flipped, not flipped)


def _repair_as(content: bytes, due: bytes, kept: bool) -> Repaired | None:
    """Repair the file as one that began with this header; None if it seems that it did not.

    ``kept``: whether this header is the copy beside the file; then a single intact record is proof enough.
    """
    known = parse(due)
    assert known is not None
    size = kind_of(known.width).itemsize
    first = find_whole(content, 0, size)
    if not is_like(content, due) and not (kept and first is not None):
        return None
    begin, whole = len(due), content.startswith(due)
    if first is not None and not whole:
        begin = first - _damaged_before(first - len(due), size)
    flipped = begin == len(due) and differ_in_one_bit(content[: len(due)], due)
    return Repaired(due, known.width, salvage(content, begin, known.width), flipped, not (flipped or whole))


def _due(job: str, width: int | None, copy: bytes) -> Iterator[bytes]:
    """The headers that the file may have had, likeliest first."""
    if copy:
        yield copy
    elif width is not None:
        yield from (spell(job, width), spell(job, width, checked=False))


def _damaged_before(gap: int, size: int) -> int:
    """Bytes of the damaged records between header and first intact record; the header's length may be off."""
    return max(0, (gap + size // 2) // size) * size


def _holds(content: bytes, begin: int, width: int) -> bool:
    """Whether there is an intact record of this width at an expected position."""
    size = kind_of(width).itemsize
    return any(find_whole(content[at : at + size], 0, size) == 0 for at in range(begin, len(content) - size + 1, size))
