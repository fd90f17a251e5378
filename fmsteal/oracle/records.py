"""The records of a ledger, each with its own checksum, and their recovery from a damaged file."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fmsteal.oracle.flips import correct

KEY, CRC = 24, 4  # bytes of a record before its answer: client, nth and image; its checksum
NARROW = 256  # records up to this many bytes are checked column by column, if there are more records than this
CHUNK = 2**22  # bytes of records that are processed together
Records = npt.NDArray[Any]


class Salvage(NamedTuple):
    """What is recovered from damaged records.

    Attributes:
        data: the intact records, in order.
        flips: number of records in which one flipped bit was corrected.
        strays: number of places where inserted bytes were removed, which left the records there intact.
        lost: estimated number of lost records.
    """

    data: bytes
    flips: int
    strays: int
    lost: int


def kind_of(width: int) -> np.dtype[Any]:
    """The dtype of a record with an answer of ``width`` values."""
    return np.dtype([("client", "<i4"), ("nth", "<i4"), ("image", "V16"), ("crc", "<u4"), ("answer", "<f4", (width,))])


def bytes_of(records: Records) -> npt.NDArray[np.uint8]:
    """Records as bytes, ``(n, size)``."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)


def checksums(records: Records) -> npt.NDArray[np.uint32]:
    """The CRC32 of each record without the bytes of the checksum itself, ``(n,)``."""
    size = records.dtype.itemsize
    if size <= NARROW < len(records):
        return _by_column(bytes_of(records))
    data, crc = memoryview(records.tobytes()), zlib.crc32
    return np.array(
        [crc(data[at + KEY + CRC : at + size], crc(data[at : at + KEY])) for at in range(0, len(data), size)],
        np.uint32,
    )


def _by_column(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """The same for many short records at once: a CRC is linear, so each byte contributes independently."""
    columns = np.delete(data, np.s_[KEY : KEY + CRC], axis=1).T.copy()
    tables, crc = _tables(len(columns))
    found = np.full(len(data), crc, np.uint32)
    for table, column in zip(tables, columns, strict=True):
        found ^= table[column]
    return found


@lru_cache(maxsize=4)
def _tables(length: int) -> tuple[npt.NDArray[np.uint32], int]:
    """How each byte at each position of a message changes its CRC32, ``(length, 256)``, and the CRC32 of zeros."""
    last = np.array([zlib.crc32(bytes([b])) ^ zlib.crc32(b"\0") for b in range(256)], np.uint32)
    tables = np.empty((length, 256), np.uint32)
    state = last
    for place in range(length - 1, -1, -1):
        tables[place] = state
        state = (state >> np.uint32(8)) ^ last[state & np.uint32(255)]
    return tables, zlib.crc32(bytes(length))


def salvage(content: bytes, begin: int, width: int) -> Salvage:
    """Find the intact records from byte ``begin`` on, at any offset; a partial one at the end is dropped.

    After damage, the next intact record is searched byte by byte, so lost or inserted bytes cost no more than the
    record that they are in.
    """
    size, at = kind_of(width).itemsize, begin
    kept: list[bytes] = []
    flips = strays = lost = 0
    while at + size <= len(content):
        if run := _count_whole(content, at, width):
            kept.append(content[at : at + run * size])
            at += run * size
            continue
        found = find_whole(content, at + 1, size, at)
        piece = content[at : len(content) if found is None else found]
        at = len(content) if found is None else found
        several, extra = divmod(len(piece), size)
        if extra and several == 1 and (whole := _without(piece, extra, size)) is not None:
            kept.append(whole)
            strays += 1
        elif extra and found is not None:  # bytes were lost or inserted
            gone = round(len(piece) / size)
            strays, lost = strays + (not gone), lost + gone
        else:
            for row in range(several):
                right = _put_right(piece[row * size : (row + 1) * size])
                kept += [] if right is None else [right]
                flips, lost = flips + (right is not None), lost + (right is None)
    return Salvage(b"".join(kept), flips, strays, lost)


def find_whole(content: bytes, begin: int, size: int, grid: int | None = None) -> int | None:
    """The offset of the first intact record at or after byte ``begin``; None if there is none.

    A record off the ``grid`` of the earlier ones must be followed by another one or by the end, as one position in a
    thousand million has the right checksum by chance.
    """
    view = memoryview(content)
    for at in range(begin, len(content) - size + 1):
        if _is_whole(view, at, size):
            after = at + size
            if grid is not None and (at - grid) % size == 0:
                return at
            if after + size > len(content) or _is_whole(view, after, size):
                return at
    return None


def width_of(content: bytes, begin: int, most: int) -> int | None:
    """The width at which the first record is intact; None if there is none up to ``most``."""
    view = memoryview(content)
    for width in range(most + 1):
        size = KEY + CRC + 4 * width
        if begin + size > len(content):
            return None
        if _is_whole(view, begin, size):
            return width
    return None


def _is_whole(view: memoryview, at: int, size: int) -> bool:
    crc = zlib.crc32(view[at + KEY + CRC : at + size], zlib.crc32(view[at : at + KEY]))
    return crc == int.from_bytes(view[at + KEY : at + KEY + CRC], "little")


def _count_whole(content: bytes, begin: int, width: int) -> int:
    """The number of consecutive intact records from ``begin`` on."""
    kind, count, at_once = kind_of(width), 0, 1
    while some := min(at_once, (len(content) - begin) // kind.itemsize - count):
        records = np.frombuffer(content, kind, some, begin + count * kind.itemsize)
        bad = np.flatnonzero(checksums(records) != records["crc"])
        if len(bad):
            return count + int(bad[0])
        count, at_once = count + some, min(2 * at_once, at_once + CHUNK // kind.itemsize)
    return count


def _without(piece: bytes, extra: int, size: int) -> bytes | None:
    """A record without the ``extra`` bytes inserted into it; None if that does not make it intact."""
    for at in range(size + 1):
        rest = piece[:at] + piece[at + extra :]
        if _is_whole(memoryview(rest), 0, size):
            return rest
    return None


def _put_right(record: bytes) -> bytes | None:
    """Correct a single flipped bit; None if more than that is wrong."""
    message, crc = record[:KEY] + record[KEY + CRC :], int.from_bytes(record[KEY : KEY + CRC], "little")
    if zlib.crc32(message) == crc:
        return record
    mended = correct(message, crc)
    if mended is None:
        return None
    return mended[0][:KEY] + mended[1].to_bytes(CRC, "little") + mended[0][KEY:]
