"""What greedy k-center costs: 200 picks from 20,000 softmax rows of ten classes.

    OMP_NUM_THREADS=2 pytest tests/bench/test_kcenter.py -n 0 --benchmark-enable --benchmark-only -s

Beside the published form, which compares all rows with all centres again at each pick (restated here from what it
does), and beside scikit-learn's pairwise distances, one pick at a time. All take turns on the same rows and must pick
the same; the figure is the median of the paired ratios. Claims: 70 % of the known ratios (235 and 2.5), and 0.3 s.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.metrics import pairwise_distances

from fmsteal.attacks.kcenter import pick_farthest_first
from tests.bench.turns import paired

POOL, CLASSES, PICKS, ASKED = 20_000, 10, 200, 100
random = torch.Generator().manual_seed(0)
ROWS = (3 * torch.randn(POOL, CLASSES, generator=random)).softmax(dim=1)
CENTRES = (3 * torch.randn(ASKED, CLASSES, generator=random)).softmax(dim=1)


def published() -> list[int]:
    """Every distance from every row to every centre, at each pick; in float64, or it would pick others."""
    rows, centres, picks = ROWS.double(), CENTRES.double(), []
    for _ in range(PICKS):
        squared = rows.square().sum(1, keepdim=True) - 2 * rows @ centres.T + centres.square().sum(1)
        picks.append(int(squared.clamp(min=0).sqrt().amin(dim=1).argmax()))
        centres = torch.cat([centres, rows[picks[-1]][None]])
    return picks


def scikit_learn() -> list[int]:
    """The nearest distance is kept; a pick costs one call of `pairwise_distances`."""
    rows, picks = ROWS.double().numpy(), list[int]()
    nearest = pairwise_distances(rows, CENTRES.double().numpy()).min(axis=1)
    for _ in range(PICKS):
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, pairwise_distances(rows, rows[picks[-1:]])[:, 0])
    return picks


@pytest.mark.parametrize(
    ("other", "claim", "turns"), [(published, 164.5, 2), (scikit_learn, 1.75, 7)], ids=["published", "scikit-learn"]
)
def test_kcenter(benchmark: BenchmarkFixture, other: Callable[[], list[int]], claim: float, turns: int) -> None:
    def same(theirs: list[int], mine: list[int]) -> None:
        assert theirs == mine

    beside = "all distances anew at each pick" if other is published else "scikit-learn, pick by pick"
    row = (f"k-center, {PICKS} of {POOL:,} rows", beside, "all picks")

    def ours() -> list[int]:
        return pick_farthest_first(ROWS, CENTRES, PICKS).tolist()

    figures = paired(benchmark, other, ours, same, claim, turns, row=row)
    assert figures["ours"] < 0.3
