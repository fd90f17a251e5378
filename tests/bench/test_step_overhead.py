"""What a training step costs beside a bare PyTorch loop over the same tensors.

    pytest tests/bench/test_step_overhead.py -n 0 --benchmark-enable --benchmark-only

Ours and the bare loop take turns; the figure is the median of the paired differences per step. Claims: at most 5 %
more for a model whose step takes 20 ms or more, at most 1.5 ms more for a linear head.
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
from torch import Tensor, nn

from fmsteal.base.progress import Progress
from fmsteal.config import build
from fmsteal.data.loader import TensorLoader
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe
from tests.bench.networks import resnet
from tests.bench.table import Row, note
from tests.support.composing import composed

TURNS = 7


def bare(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """The loop one would write by hand: same batches, optimiser and schedule; nothing logged, nothing kept."""
    optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(x) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(recipe.epochs):
        for ids in torch.randperm(len(x)).split(recipe.batch_size):
            loss = F.cross_entropy(net(x[ids]), y[ids])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def ours(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> None:
    training = build.make(composed("trainer=cpu").trainer)
    module = SupervisedModule(net, F.cross_entropy, recipe, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        loader = TensorLoader(x, y, recipe.batch_size, seed=0)
        training.fit(
            module, loader, stage="bench", scratch=Path(folder), tracker=CsvTracker(Path(folder)), progress=Progress()
        )


CASES = {
    "resnet10t, batch 64 of 32 pixels": (resnet, torch.randint(0, 256, (1280, 3, 32, 32), dtype=torch.uint8), 2),
    "linear head on 1280 features, batch 64": (lambda: nn.Linear(1280, 10), torch.randn(2560, 1280), 10),
}


@pytest.mark.parametrize("case", CASES)
def test_step_overhead(case: str, benchmark: BenchmarkFixture) -> None:
    make, x, epochs = CASES[case]
    y = torch.arange(len(x)) % 10
    recipe = Recipe(epochs=epochs, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.01)
    steps = epochs * len(x) // 64
    times: dict[str, list[float]] = {"bare": [], "ours": []}

    def turn() -> None:
        for name, loop in (("bare", bare), ("ours", ours)):
            net = make()
            began = time.perf_counter()
            loop(net, x, y, recipe)
            times[name].append((time.perf_counter() - began) / steps * 1e3)

    benchmark.pedantic(turn, rounds=TURNS, warmup_rounds=1)
    for found in times.values():
        del found[0]  # the warm-up
    more = statistics.median(o - b for o, b in zip(times["ours"], times["bare"], strict=True))
    step = statistics.median(times["bare"])
    benchmark.extra_info |= {
        "bare_ms": round(step, 3),
        "ours_more_ms": round(more, 3),
        "ours_more_share": round(more / step, 4),
    }
    note(Row(f"a training step: {case}", "a bare loop", step / 1e3, (step + more) / 1e3))
    assert more <= 0.05 * step if step >= 20 else more <= 1.5
