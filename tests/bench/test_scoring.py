"""What scoring a pool costs, entropy and margin, with a small ResNet: 512 images of 32 pixels, ten classes.

    OMP_NUM_THREADS=1 pytest tests/bench/test_scoring.py -n 0 --benchmark-enable --benchmark-only -s

Beside two forms in circulation, restated: batches of the same size under autograd, their softmax rows gathered in a
list and scored row by row with scipy; and the same, image by image. All take turns on the same pool and must find the
same scores; the figure is the median of the paired ratios. Claims: 70 % of the known ratios (1.5 and 11.6).
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.strategies import entropy, margin
from fmsteal.config import build
from fmsteal.data.images import Images
from tests.bench.turns import paired
from tests.support.composing import composed
from tests.support.small_task import context

COUNT, BATCH = 512, 64  # our batch is trainer.inference_batch
POOL = Images(np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8), "pool")


def circulating(model: nn.Module, batch: int) -> tuple[Tensor, Tensor]:
    rows = []
    for start in range(0, COUNT, batch):
        images = torch.from_numpy(POOL.pixels[start : start + batch]).float() / 255
        rows += list(F.softmax(model(images), dim=1).detach().numpy())
    entropies = [scipy.stats.entropy(row) for row in rows]
    margins = [np.sort(row)[-1] - np.sort(row)[-2] for row in rows]
    return torch.tensor(np.array(entropies, np.float32)), torch.tensor(np.array(margins))


@pytest.mark.parametrize(("batch", "claim"), [(BATCH, 1.05), (1, 8.1)], ids=["batches", "images"])
def test_scoring(benchmark: BenchmarkFixture, batch: int, claim: float, tmp_path: Path) -> None:
    learner = build.make(composed("thief=resnet10t", "thief.backbone.size=32").thief)
    ctx = AttackContext(learner, context(tmp_path, f"trainer.inference_batch={BATCH}"))
    theirs, mine = (learner.build(10).eval() for _ in range(2))

    def ours() -> tuple[Tensor, Tensor]:
        probabilities = ctx.logits(mine, POOL, np.arange(COUNT)).softmax(dim=1)
        return entropy(probabilities), margin(probabilities)

    same = functools.partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    beside = "image by image" if batch == 1 else "batches under autograd, rows by SciPy"
    row = (f"entropy and margin of {COUNT} images", beside, "scores, 1e-4")
    paired(benchmark, functools.partial(circulating, theirs, batch), ours, same, claim, row=row)
