"""A task of sixty images, and what victims and thieves are trained on it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fmsteal.base.progress import Progress
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images, Task
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.context import Context
from tests.support.composing import composed

RANDOM = np.random.default_rng(0)


PIXELS = RANDOM.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)


LABELS = RANDOM.integers(0, 3, 60)


CLASSES = ["a", "b", "c"]


TASK = Task(
    Images(PIXELS[:40], "train", LABELS[:40], CLASSES),
    Images(PIXELS[40:], "test", LABELS[40:], CLASSES),
)


def context(folder: Path, *overrides: str) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    training = build.make(composed("trainer=cpu", *overrides).trainer)
    return Context(Store(folder / "cache"), folder, training, CsvTracker(folder), Progress(), seed=0)


def part(name: str, *overrides: str) -> Any:
    return build.make(
        composed("recipes.probe.epochs=2", "recipes.scratch.epochs=2", "recipes.scratch.min_steps=0", *overrides)[name]
    )
