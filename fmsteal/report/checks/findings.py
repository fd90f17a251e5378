"""What verifying one job found: its faults, each beginning with the file's name, and how much was checked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WHOLE, BLOCK, BLOCKS = 256 * 2**20, 2**20, 64  # larger files are known by blocks of them, and their size


@dataclass
class Findings:
    """Faults of a job and of its theft, in words.

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
        """Note a fault unless something holds."""
        if not holds:
            self.add(name, what)

    def compare(self, file: Path, name: str, known: object, by: str) -> bool:
        """Whether a file is there with the digest that is known of it; ``by`` names the file that says so."""
        self.counted["digests"] += 1
        if not file.is_file():
            self.add(name, f"is missing; {by} vouches for it")
        elif self.digest(file) != known:
            self.add(name, f"does not match the digest in {by}")
        else:
            return True
        return False

    def digest(self, file: Path) -> str:
        """SHA-256 of a file; of a very large one that of its size and 64 blocks. Two names of one file: once."""
        status = file.stat()
        place = status.st_dev, status.st_ino
        if place not in self._hashed:
            self._hashed[place] = _sampled(file, status.st_size) if status.st_size > WHOLE else _whole(file)
        return self._hashed[place]

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """Take whatever goes wrong while a file is read for a fault of it: a damaged file fails in any way."""
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
