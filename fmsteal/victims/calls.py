"""Counts the images that a victim is shown, each for a purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Purpose = Literal["preparation", "defense", "attack", "measurement", "outside"]


class Calls:
    """Counts the images that a victim is shown in this process, by purpose.

    While an attack runs, the purpose is ``outside``; only the oracle changes it to ``attack``, while it asks about a
    block that fits the budget. Images counted as ``outside`` were shown to the victim past the oracle.
    """

    def __init__(self) -> None:
        self.purpose: Purpose = "preparation"
        self.shown: Counter[Purpose] = Counter()
        self.computed: Counter[Purpose] = Counter()

    @contextmanager
    def during(self, purpose: Purpose) -> Iterator[None]:
        """Count the images shown in this context under ``purpose``."""
        before, self.purpose = self.purpose, purpose
        try:
            yield
        finally:
            self.purpose = before

    def show(self, images: int) -> None:
        """Count images that need an answer, which may be known already."""
        self.shown[self.purpose] += images

    def compute(self, images: int) -> None:
        """Count images that go through the model."""
        self.computed[self.purpose] += images
