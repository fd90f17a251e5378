"""Image files that are small, and become large or slow when they are opened."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def spell_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def claim_png(side: int, *chunks: bytes) -> bytes:
    """A PNG of a few hundred bytes that says it is so large."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = spell_chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + spell_chunk(b"IHDR", head) + b"".join(chunks) + pixels + spell_chunk(b"IEND", b"")


def inflate_text(size: int) -> bytes:
    """A PNG with a comment that is so many bytes long once it is unpacked."""
    return claim_png(5, spell_chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(size), 9)))


def inflate_profile(size: int) -> bytes:
    """The same with a colour profile."""
    return claim_png(5, spell_chunk(b"iCCP", b"note\0\0" + zlib.compress(bytes(size), 9)))


def fill_png(side: int) -> bytes:
    """A real black PNG: 48 MB of pixels in 50 kB, for a side of 4,096."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(file, "PNG", compress_level=9)
    return file.getvalue()


def claim_jpeg(side: int) -> bytes:
    """A small JPEG that says it is so large."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def repeat_scans(side: int, count: int) -> bytes:
    """A progressive JPEG that goes so many times through all of its pixels; some 25 bytes for each time."""
    file = io.BytesIO()
    Image.new("L", (side, side)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]
