"""Where the members of an archive lie, against tarfile's own reading; cut and damaged archives."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from fmsteal.base.errors import DataError
from fmsteal.data.tar_members import Member, list_members
from tests.support.shards import write_tar

MEMBERS = [(f"folder/{'long' * 40}/{i}.bin", os.urandom(100 * i)) for i in range(20)]


def read(file: Path) -> list[Member]:
    with file.open("rb") as stream:
        return list(list_members(stream))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_they_are(form: int, tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    with tarfile.open(file, "w", format=form) as tar:
        tar.add(tmp_path, "a folder", recursive=False)
        for at, (name, content) in enumerate(MEMBERS):
            source = tmp_path / str(at)
            source.write_bytes(content)
            tar.add(source, name if form != tarfile.USTAR_FORMAT else f"{at}.bin")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "a folder"
        tar.addfile(link)
    found, raw = read(file), file.read_bytes()
    assert [raw[member.start : member.end] for member in found] == [content for _, content in MEMBERS]
    if form != tarfile.USTAR_FORMAT:
        assert [member.name for member in found] == [name for name, _ in MEMBERS]


def test_an_archive_in_an_archive_is_read_in_place(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", MEMBERS)
    outer = write_tar(tmp_path / "outer.tar", [("first", b"x" * 700), ("inner.tar", inner.read_bytes()), ("last", b"")])
    place, raw = read(outer)[1], outer.read_bytes()
    with outer.open("rb") as stream:
        found = list(list_members(stream, place.start, place.end))
    assert [raw[member.start : member.end] for member in found] == [content for _, content in MEMBERS]


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        (0, "no tar archive"),
        (300, "no tar archive"),
        (512, "cut off within its member 0"),
        (1024, "end mark"),
        (5000, "cut off within its member 4"),
        (4 * 1024 + 100, "at byte 4096"),
    ],
)
def test_a_cut_archive_says_where(cut: int, says: str, tmp_path: Path) -> None:
    """Members of 512 bytes: a header and a block each."""
    file = write_tar(tmp_path / "x.tar", [(f"{i}", b"x" * 512) for i in range(9)])
    os.truncate(file, cut)
    with pytest.raises(DataError, match=says):
        read(file)


def test_each_length_that_an_archive_is_cut_to_shows(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [(f"{i}", b"x" * 500) for i in range(3)])
    whole = file.read_bytes()
    for cut in range(0, 3 * 1024 + 1, 64):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read(file)
    file.write_bytes(whole[: 3 * 1024 + 512])
    assert len(read(file)) == 3


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", [(f"{i}", b"x" * 512) for i in range(9)])
    raw = bytearray(file.read_bytes())
    raw[4 * 1024 + 10] ^= 255
    file.write_bytes(raw)
    with pytest.raises(DataError, match="damaged at byte 4096, where no header can be read"):
        read(file)


def test_a_compressed_archive_is_named(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "x.tar", MEMBERS[:2])
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(DataError, match=r"compressed with gzip.*decompress it"):
        read(file)
