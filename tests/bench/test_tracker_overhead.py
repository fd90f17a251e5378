"""What logging to W&B costs beside no tracker, at the pace of training: one point an epoch.

    pytest tests/bench/test_tracker_overhead.py -n 0 --benchmark-enable --benchmark-only -s

The same training with ``tracker=wandb`` (offline) and ``tracker=none`` in turn, each run opened before it is timed; the
figure is the median of the paired differences. Claim: less than 2 % of a step, in epochs of 10 steps, which is few. The
second test times a point alone, which other work on the machine hides least.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture

from fmsteal.base.progress import Progress
from fmsteal.config import build
from fmsteal.data.loader import TensorLoader
from fmsteal.tracking.base import RunInfo
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe
from tests.bench.networks import resnet
from tests.bench.table import Row, note
from tests.support.composing import composed

TURNS = 9
EPOCHS, STEPS, BATCH = 4, 10, 16
CLAIM = 0.02
X = torch.randint(0, 256, (STEPS * BATCH, 3, 32, 32), dtype=torch.uint8)
Y = torch.arange(len(X)) % 10
RECIPE = Recipe(epochs=EPOCHS, batch_size=BATCH, optimizer="adamw", lr=1e-3)


def seconds(tracker: str) -> float:
    """Of training under a tracker, whose run is opened and finished outside the clock."""
    tracking = build.make(composed(f"tracker={tracker}").tracker)
    training = build.make(composed("trainer=cpu").trainer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tracking.open(RunInfo("job", folder, {}, {}, "bench")) as tracker_:
            module, loader = SupervisedModule(resnet(), F.cross_entropy, RECIPE, 0), TensorLoader(X, Y, BATCH, seed=0)
            began = time.perf_counter()
            training.fit(module, loader, stage="thief", scratch=folder, tracker=tracker_, progress=Progress())
            return time.perf_counter() - began


def test_logging_costs_less_than_two_per_cent_of_a_step(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    times: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: times.append((seconds("none"), seconds("wandb"))), rounds=TURNS, warmup_rounds=1)
    steps, counted = EPOCHS * STEPS, times[1:]
    step = statistics.median(none for none, _ in counted) / steps * 1e3
    more = statistics.median(wandb - none for none, wandb in counted) / steps * 1e3
    benchmark.extra_info |= {"step_ms": round(step, 3), "more_ms": round(more, 4), "share": round(more / step, 4)}
    note(Row("a training step, logged to W&B offline", "not logged", step / 1e3, (step + more) / 1e3))
    assert more < CLAIM * step


def test_a_point_costs_less_than_two_per_cent_of_an_epoch(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    epoch = seconds("none") / EPOCHS
    tracking = build.make(composed("tracker=wandb").tracker)
    with (
        tempfile.TemporaryDirectory() as name,
        tracking.open(RunInfo("job", Path(name), {}, {}, "bench")) as tracker,
    ):
        points = iter(range(1, 10**6))
        benchmark.pedantic(
            lambda: tracker.log({"thief/loss": 1.0, "thief/accuracy": 0.5}, ("thief/epoch", float(next(points)))),
            rounds=200,
            warmup_rounds=5,
        )
    median = benchmark.stats.stats.median
    benchmark.extra_info |= {"point_ms": round(median * 1e3, 3), "epoch_ms": round(epoch * 1e3, 1)}
    note(Row("a point of a curve in W&B offline", "the epoch that it is about", epoch, median))
    assert median < CLAIM * epoch
