"""What correlates with agreement across a sweep: rank correlations over its cells, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Cell, Study

EXPLAINING = ("test/cka_unbiased", "test/trunk_cka_unbiased", "test/victim_accuracy", "test/victim_entropy")
FEWEST = 5  # cells for a meaningful rank correlation
FEWEST_VICTIMS = 5  # victims for a meaningful interval of it
RESAMPLED = 2000
DIGITS = 9  # decimals for ranking: the same figure computed in two ways differs in the last bits


@dataclass(frozen=True)
class Relation:
    """The correlation of a figure with agreement over the cells of one budget.

    Attributes:
        metric: the figure.
        queries: the budget of the cells.
        rho: Spearman's rank correlation of the cells' means.
        interval: its 95 % interval, by bootstrap over victims; None if there are too few victims.
        cells: the number of cells.
    """

    metric: str
    queries: int
    rho: float
    interval: tuple[float, float] | None
    cells: int


def find_relations(study: Study) -> list[Relation]:
    """Relate every explaining figure that all finished jobs have; cells are compared at equal budget only."""
    metrics = [name for name in EXPLAINING if all(job.figure(name) is not None for job in study.done)]
    if "test/cka_unbiased" not in metrics:
        return []
    by_budget: dict[int, list[Cell]] = {}
    for cell in study.cells:
        if cell.done:
            by_budget.setdefault(cell.queries or 0, []).append(cell)
    return [
        Relation(metric, queries, *_relate(metric, cells), len(cells))
        for queries, cells in sorted(by_budget.items())
        for metric in metrics
        if len(cells) >= FEWEST and all(len(set(_means(cells, name))) > 1 for name in (metric, HEADLINE))
    ]


def _relate(metric: str, cells: Sequence[Cell]) -> tuple[float, tuple[float, float] | None]:
    """Spearman's correlation of a metric with agreement over cells, and its interval; victims are drawn whole."""
    axes = [cell.jobs[0].axis for cell in cells]
    victims = [f"{axis['victim']} {axis.get('victim_adaptation')}" for axis in axes]
    return correlate_ranks(_means(cells, metric), _means(cells, HEADLINE), victims)


def correlate_ranks(
    x: Sequence[float], y: Sequence[float], victims: Sequence[str]
) -> tuple[float, tuple[float, float] | None]:
    """Spearman's rho of paired values, and its 95 % interval by bootstrap over victims.

    Cells that share a victim are not independent: whole victims are drawn, with all their cells.
    """
    import numpy as np
    from scipy.stats import rankdata

    def rho(some: Any) -> float:
        a, b = (rankdata(values[some]) for values in (np.asarray(x), np.asarray(y)))
        a, b = a - a.mean(), b - b.mean()
        scale = float(np.sqrt((a @ a) * (b @ b)))
        return float(a @ b) / scale if scale > 0 else np.nan

    own = [np.flatnonzero(np.asarray(victims) == name) for name in sorted(set(victims))]
    whole = rho(np.arange(len(x)))
    if len(own) < FEWEST_VICTIMS:
        return whole, None
    random = np.random.default_rng(0)
    drawn = [rho(np.concatenate([own[v] for v in random.integers(len(own), size=len(own))])) for _ in range(RESAMPLED)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return whole, (float(low), float(high))


def _means(cells: Sequence[Cell], metric: str) -> list[float]:
    figures = [cell.figure(metric) for cell in cells]
    return [round(figure.mean, DIGITS) if figure else math.nan for figure in figures]
