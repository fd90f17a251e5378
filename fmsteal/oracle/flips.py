"""Corrects a single flipped bit, using a CRC32; detects one by comparison with a known line."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np


def correct(message: bytes, crc: int) -> tuple[bytes, int] | None:
    """Message and checksum with the one wrong bit corrected; None if no single bit makes them match.

    In a message of less than half a gigabyte, each flipped bit changes the CRC32 in a different way.
    """
    difference = zlib.crc32(message) ^ crc
    if difference.bit_count() == 1:
        return message, crc ^ difference
    bit = _bits(len(message)).get(difference)
    if bit is None:
        return None
    mended = bytearray(message)
    mended[bit // 8] ^= 1 << bit % 8
    return bytes(mended), crc


def differ_in_one_bit(one: bytes, other: bytes) -> bool:
    """Whether two byte strings have the same length and differ in exactly one bit."""
    if len(one) != len(other):
        return False
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count() == 1


@lru_cache(maxsize=4)
def _bits(length: int) -> dict[int, int]:
    """The position of a bit, by the change that flipping it makes to the CRC32 of a message of this length.

    A CRC is linear: the change depends only on the bit's distance from the end, and each byte further from the end
    updates it as one more zero byte would.
    """
    table = np.array([zlib.crc32(bytes([b])) ^ zlib.crc32(b"\0") for b in range(256)], np.uint32)
    differences = np.empty((length, 8), np.uint32)
    state = table[1 << np.arange(8)]
    for byte in range(length - 1, -1, -1):
        differences[byte] = state
        state = (state >> np.uint32(8)) ^ table[state & np.uint32(255)]
    return {int(difference): bit for bit, difference in enumerate(differences.reshape(-1))}
