"""A cache that jobs of these tests share, and a count of what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fmsteal.oracle.oracle import Oracle
from fmsteal.training.trainer import Training
from tests.support import foreign_victims


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs find what can be made again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts what is done: trainings, queries, images that the foreign victim sees."""
    counts: Counter[str] = Counter()
    fit, answer = Training.fit, Oracle._answer

    def train(self: Training, *args: Any, stage: str, **options: Any) -> Any:
        counts[f"train {stage}"] += 1
        return fit(self, *args, stage=stage, **options)

    def ask(self: Oracle, questions: Any, shown: Any) -> Any:
        before = self.used
        found = answer(self, questions, shown)
        counts["ask"] += 1
        counts["queries"] += self.used - before
        return found

    monkeypatch.setattr(Training, "fit", train)
    monkeypatch.setattr(Oracle, "_answer", ask)
    monkeypatch.setattr(foreign_victims.Model, "seen", 0)
    return counts
