"""Two forms of the same computation, timed in turn: what most benchmarks here do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

from pytest_benchmark.fixture import BenchmarkFixture

from tests.bench.table import Row, note

T = TypeVar("T")


def paired(
    benchmark: BenchmarkFixture,
    published: Callable[[], T],
    ours: Callable[[], T],
    same: Callable[[T, T], object],
    claim: float,
    turns: int = 5,
    repeats: int = 1,
    *,
    row: tuple[str, str, str],
    share: float = 1.0,
) -> dict[str, float]:
    """Time both forms in turn, after a turn that does not count; ours is at least ``claim`` times as fast.

    Args:
        benchmark: pytest-benchmark's fixture, which is told the figures.
        published: the other form, as it circulates or as a plain loop.
        ours: this project's.
        same: told the results of both, of every turn; raises where they differ.
        claim: the median of the paired ratios must reach it.
        turns: how many count.
        repeats: of ours in a turn, where a single one is too short to be timed.
        row: in the table: what is computed, what ``published`` is, what of both is the same.
        share: of the work of ``ours`` that ``published`` does; ``claim`` and the ratio are for as much as ours.

    Returns:
        Median seconds of ``published`` and ``ours``, and their ``ratio``.
    """
    times: list[tuple[float, float]] = []

    def turn() -> None:
        began = time.perf_counter()
        theirs = published()
        between = time.perf_counter()
        for _ in range(repeats):
            mine = ours()
        ended = time.perf_counter()
        times.append((between - began, (ended - between) / repeats))
        same(theirs, mine)

    benchmark.pedantic(turn, rounds=turns, warmup_rounds=1)
    counted = times[1:]
    figures = {
        "published": statistics.median(theirs for theirs, _ in counted),
        "ours": statistics.median(mine for _, mine in counted),
        "ratio": statistics.median(theirs / mine / share for theirs, mine in counted),
    }
    benchmark.extra_info |= figures
    theirs, mine, ratio = figures.values()
    what, beside, equal = row
    note(Row(what, beside, theirs / share, mine, same=equal, ratio=ratio))
    assert ratio >= claim, f"{ratio:.3g} times as fast, claimed {claim}"
    return figures
