"""The findings of verifying one job: its faults, each beginning with the file's name, and how much was checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WHOLE, BLOCK, BLOCKS = 256 * 2**20, 2**20, 64  # larger files are digested by blocks and size


@dataclass
class Findings:
    """The faults of a job and its theft, in words.

    Attributes:
        faults: ``<file>: <what is wrong>``.
        counted: how many digests, ledgers, answers and W&B runs were checked.
    """

    faults: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    _hashed: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, name: str, what: str) -> None:
        """Note a fault of a file."""
        if (fault := f"{name}: {what}") not in self.faults:
            self.faults.append(fault)

    def require(self, holds: bool, name: str, what: str) -> None:
        """Note a fault unless ``holds``."""
        if not holds:
            self.add(name, what)

    def compare(self, file: Path, name: str, known: object, by: str) -> bool:
        """Whether a file exists with the ``known`` digest; ``by`` names the file that states the digest."""
        self.counted["digests"] += 1
        if not file.is_file():
            self.add(name, f"is missing; {by} vouches for it")
        elif self.digest(file) != known:
            self.add(name, f"does not match the digest in {by}")
        else:
            return True
        return False

    def digest(self, file: Path) -> str:
        """A file's SHA-256; for a very large file, that of its size and 64 blocks. Hard links are hashed once."""
        status = file.stat()
        place = status.st_dev, status.st_ino
        if place not in self._hashed:
            self._hashed[place] = _sampled(file, status.st_size) if status.st_size > WHOLE else _whole(file)
        return self._hashed[place]

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Note any exception while a file is read as its fault: a damaged file can fail in any way."""
        try:
            yield
        except Exception as error:
            self.add(name, f"is not as it should be ({type(error).__name__}: {error})")


def _whole(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sampled(file: Path, size: int) -> str:
    total = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for block in range(BLOCKS):
            stream.seek((size - BLOCK) * block // (BLOCKS - 1))
            total.update(stream.read(BLOCK))
    return f"sampled:{total.hexdigest()}"
