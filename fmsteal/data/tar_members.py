"""The files inside a tar archive, and where each of them lies. Headers are read, nothing is unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fmsteal.base.errors import DataError

_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its name there.
        start: the first byte of its content, counted from the beginning of the file that holds the archive.
        size: bytes of its content.
    """

    name: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte after its content."""
        return self.start + self.size


def list_members(stream: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The plain files of an archive, in its order; folders, links and sparse files are left out.

    Args:
        stream: an open file.
        start: where the archive begins in it: an archive may be a member of another.
        end: where it ends; None for the end of the file.

    Raises:
        DataError: the archive is compressed, damaged or cut off; raised where that shows, after the members before.
    """
    end = os.fstat(stream.fileno()).st_size if end is None else end
    _require_plain(stream, start)
    stream.seek(start)
    last = start
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (found := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header that it has read
                last = found.offset
                if found.offset_data + found.size > end:
                    raise DataError(f"it is cut off within its member {found.name}")
                if found.type in _PLAIN and not found.issparse():
                    yield Member(found.name, found.offset_data, found.size)
            last = tar.offset
    except tarfile.TarError as error:
        raise DataError(f"it is no tar archive, or damaged or cut off at byte {last} ({error})") from error
    stream.seek(last)
    mark = stream.read(min(tarfile.BLOCKSIZE, max(0, end - last)))
    if not mark:
        raise DataError(f"it is cut off at byte {last}, where its end mark is missing")
    if mark.strip(b"\0"):  # `tarfile` takes a header that it cannot read for the end
        raise DataError(f"it is damaged at byte {last}, where no header can be read")


def _require_plain(stream: BinaryIO, start: int) -> None:
    stream.seek(start)
    head = stream.read(6)
    kind = next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None)
    if kind is not None:
        raise DataError(f"it is compressed with {kind}, so that no image can be read by itself: decompress it")
