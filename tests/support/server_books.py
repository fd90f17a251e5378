"""What a service has written down, read from its database without its code."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Recorded:
    """The answers that a service was paid for, in the order of its numbers.

    Attributes:
        images: 16-byte digest of the image of each answer.
        answers: float32 ``(n, width)``.
        usd: US dollars that all clients were charged.
        queries: number of answers that all clients were charged.
        reserved: number of images that are still reserved.
    """

    images: list[bytes]
    answers: npt.NDArray[np.float32]
    usd: float
    queries: int
    reserved: int

    @property
    def paid(self) -> Counter[bytes]:
        """How often each image was paid for."""
        return Counter(self.images)

    def find(self, image: bytes) -> npt.NDArray[np.float32]:
        """All answers to an image, ``(n, width)``."""
        return self.answers[[number for number, each in enumerate(self.images) if each == image]]


def read_books(state: Path) -> Recorded:
    """The records in a service's folder; the service may be running."""
    with closing(sqlite3.connect(f"file:{state / 'service.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("select image, answer from questions join answers using (id) where not refused order by id")
        known = [(image, np.frombuffer(answer, np.float32)) for image, answer in rows]
        charged = db.execute("select total(queries), total(usd), total(reserved) from clients").fetchone()
    width = len(known[0][1]) if known else 0
    answers = np.array([row for _, row in known], np.float32).reshape(len(known), width)
    return Recorded([image for image, _ in known], answers, charged[1], charged[0], charged[2])
