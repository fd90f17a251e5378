"""What goes along with agreement across a sweep? Rank correlations over its cells, with intervals."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmsteal.report.cells import cells

EXPLAINING = ("test/cka_unbiased", "test/trunk_cka_unbiased", "test/victim_accuracy", "test/victim_entropy")
FEWEST = 5  # cells, below which a rank correlation says nothing
RESAMPLED = 2000
DIGITS = 9  # after which figures count as equal: two ways to the same one differ in the last bits, and ranks would too


@dataclass(frozen=True)
class Relation:
    """How a figure goes along with agreement over the cells of one budget.

    Attributes:
        metric: the figure.
        queries: the budget of the cells.
        rho: Spearman's rank correlation of the cells' means.
        interval: its 95 % interval, by bootstrap over cells (BCa); None where it cannot be had.
        cells: how many.
    """

    metric: str
    queries: int
    rho: float
    interval: tuple[float, float] | None
    cells: int


def relations(results: Sequence[dict[str, Any]]) -> list[Relation]:
    """Of every explaining figure that all results have; cells are compared at equal budget only."""
    metrics = [name for name in EXPLAINING if all(name in r["metrics"] for r in results)]
    if "test/cka_unbiased" not in metrics:
        return []
    by_budget: dict[int, list[list[dict[str, Any]]]] = {}
    for _, jobs in cells(results)[1]:
        by_budget.setdefault(jobs[0]["budget"], []).append(jobs)
    found = []
    for queries, groups in sorted(by_budget.items()):
        agreement = [_mean(jobs, "test/agreement") for jobs in groups]
        for metric in metrics if len(groups) >= FEWEST else ():
            figures = [_mean(jobs, metric) for jobs in groups]
            if len(set(figures)) > 1 and len(set(agreement)) > 1:
                found.append(Relation(metric, queries, *rank_correlation(figures, agreement), len(groups)))
    return found


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Spearman's rho of paired values, and its 95 % interval by bootstrap over the pairs."""
    import numpy as np
    from scipy.stats import bootstrap, rankdata

    def rho(a: Any, b: Any, axis: int = -1) -> Any:
        a, b = (r - r.mean(axis, keepdims=True) for r in (rankdata(a, axis=axis), rankdata(b, axis=axis)))
        return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a resample may hold one pair many times over
        interval = bootstrap(
            (x, y), rho, paired=True, n_resamples=RESAMPLED, rng=np.random.default_rng(0)
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return float(rho(x, y)), None if np.isnan([low, high]).any() else (low, high)


def _mean(jobs: Sequence[dict[str, Any]], metric: str) -> float:
    return round(statistics.fmean(job["metrics"][metric] for job in jobs), DIGITS)
