"""What a victim is shown, and for what purpose: every look at it has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Purpose = Literal["preparation", "defense", "attack", "measurement", "outside"]


class Calls:
    """Counts the images that a victim is shown, by purpose, in this process.

    While an attack runs, the purpose is ``outside``: only the oracle, for the time of a block that fits the budget,
    changes it to ``attack``. What is counted as ``outside`` was shown to the victim past the oracle.
    """

    def __init__(self) -> None:
        self.purpose: Purpose = "preparation"
        self.shown: Counter[Purpose] = Counter()
        self.computed: Counter[Purpose] = Counter()

    @contextmanager
    def during(self, purpose: Purpose) -> Iterator[None]:
        """Count what is shown meanwhile under a purpose."""
        before, self.purpose = self.purpose, purpose
        try:
            yield
        finally:
            self.purpose = before

    def show(self, images: int) -> None:
        """Images that an answer is wanted for; it may be known already."""
        self.shown[self.purpose] += images

    def compute(self, images: int) -> None:
        """Images that go through the model."""
        self.computed[self.purpose] += images
