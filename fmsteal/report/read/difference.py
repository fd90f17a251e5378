"""How far two cells are apart, and whether by more than chance.

Cells with two seeds or more in common are paired by seed (Student's interval of the differences); otherwise it is
Welch's interval of the difference of means. Both cover seeds, and test images only if each seed has its own: two
thieves with the same seed are judged on the same images. Fewer than three seeds, or seeds that are all alike, give no
interval. Imports no torch.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from fmsteal.report.read.holm import LEVEL
from fmsteal.report.read.interval import FEWEST, Bounds, are_alike, clip_interval, student_interval, student_p
from fmsteal.report.read.study import Cell, half_of, pair_figures


@dataclass(frozen=True)
class Difference:
    """One cell's figure minus another's.

    Attributes:
        value: the difference of the means; if paired, over the seeds that both have.
        interval: its 95 % interval, clipped to what two such figures can differ by; None if seeds are too few or alike.
        by: how it was found, as ``paired, 3 seeds``.
        seeds: the number of paired seeds, two or more; 0 if it is not paired.
        chance: two-sided p-value of the difference; None without an interval.
        adjusted: the p-value adjusted for the number of comparisons in a table; None outside of a table.
    """

    value: float
    interval: tuple[float, float] | None
    by: str
    seeds: int = 0
    chance: float | None = None
    adjusted: float | None = None

    @property
    def paired(self) -> bool:
        """Whether it is paired by the seeds that both have."""
        return self.seeds > 0

    @property
    def told(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def holds(self) -> bool:
        """Whether it is more than chance, given all comparisons of its table."""
        return self.adjusted is not None and self.adjusted <= LEVEL

    @property
    def half(self) -> float | None:
        """Half the interval's width: value +- half; None without an interval, or if it is cut at a bound."""
        return half_of(self.value, self.interval)

    @classmethod
    def of(cls, one: Cell, other: Cell, metric: str) -> Difference | None:
        """The other's figure minus the one's; None if either has none."""
        pairs = pair_figures(one, other, metric)
        ends = _most(one.bounds(metric), other.bounds(metric))
        if len(pairs) > 1:
            gains = [b - a for a, b in pairs]
            interval = student_interval(gains, ends)
            return cls(statistics.fmean(gains), interval, f"paired, {len(gains)} seeds", len(gains), student_p(gains))
        mine, theirs = list(one.by_seed(metric).values()), list(other.by_seed(metric).values())
        if not mine or not theirs:
            return None
        if len(mine) > 1 and len(theirs) > 1:
            from scipy.stats import ttest_ind

            by = f"Welch, {len(mine)} and {len(theirs)} seeds"
            gain = statistics.fmean(theirs) - statistics.fmean(mine)
            if (are_alike(mine) and are_alike(theirs)) or min(len(mine), len(theirs)) < FEWEST:
                return cls(gain, None, by)
            found = ttest_ind(theirs, mine, equal_var=False)
            low, high = found.confidence_interval(0.95)
            return cls(gain, clip_interval((float(low), float(high)), ends), by, chance=float(found.pvalue))
        if pairs:
            return cls(pairs[0][1] - pairs[0][0], None, "the seed of both")
        return cls(statistics.fmean(theirs) - statistics.fmean(mine), None, "other seeds")


def _most(one: Bounds, other: Bounds) -> Bounds:
    """How far apart two figures can be, in both directions."""
    if None in one or None in other:
        return None, None
    return other[0] - one[1], other[1] - one[0]  # type: ignore[operator]
