from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fmsteal.base.progress import Progress
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.curves import Curves


class Full(CsvTracker):
    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        raise OSError("no space left")


def test_what_is_relayed_is_logged(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path)
    with Curves(tracker, Progress(), "thief", 2).relay() as relay:
        relay({"loss": 2.0}, 1)
        relay({"loss": 1.0}, 2)
    assert tracker.points() == [("thief/epoch", 1.0, "thief/loss", 2.0), ("thief/epoch", 2.0, "thief/loss", 1.0)]


def test_a_tracker_that_fails_fails_the_training_and_does_not_hang_it(tmp_path: Path) -> None:
    curves = Curves(Full(tmp_path), Progress(), "thief", 2000)
    with pytest.raises(OSError, match="no space left"), curves.relay() as relay:
        for epoch in range(2000):  # more than a pipe holds
            relay({"loss": 1.0}, epoch)
