"""How far two cells are apart, and whether that is more than chance.

Where both have two seeds or more in common, their differences are paired by seed (Student's interval of those), else it
is Welch's interval of the difference of means. Imports no torch.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from fmsteal.report.interval import student_interval
from fmsteal.report.study import Cell, paired


@dataclass(frozen=True)
class Difference:
    """One cell's figure less another's.

    Attributes:
        value: the difference of the means; of the seeds both have, where it is paired.
        interval: its 95 % interval; None where there are seeds too few.
        by: how it was found, as ``paired, 3 seeds``.
        seeds: that it is paired by, two or more; 0 where it is not.
    """

    value: float
    interval: tuple[float, float] | None
    by: str
    seeds: int = 0

    @property
    def paired(self) -> bool:
        """Whether it is of the seeds that both have."""
        return self.seeds > 0

    @property
    def told(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def half(self) -> float | None:
        """Half the interval's width: value +- half."""
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2

    @classmethod
    def of(cls, one: Cell, other: Cell, metric: str) -> Difference | None:
        """The other's figure less the one's; None where one has none."""
        pairs = paired(one, other, metric)
        if len(pairs) > 1:
            gains = [b - a for a, b in pairs]
            return cls(statistics.fmean(gains), student_interval(gains), f"paired, {len(gains)} seeds", len(gains))
        mine, theirs = list(one.by_seed(metric).values()), list(other.by_seed(metric).values())
        if not mine or not theirs:
            return None
        if len(mine) > 1 and len(theirs) > 1:
            from scipy.stats import ttest_ind

            by = f"Welch, {len(mine)} and {len(theirs)} seeds"
            gain = statistics.fmean(theirs) - statistics.fmean(mine)
            if statistics.pvariance(mine) == statistics.pvariance(theirs) == 0:
                return cls(gain, (gain, gain), by)
            interval = ttest_ind(theirs, mine, equal_var=False).confidence_interval(0.95)
            return cls(gain, (float(interval.low), float(interval.high)), by)
        if pairs:
            return cls(pairs[0][1] - pairs[0][0], None, "the seed of both")
        return cls(statistics.fmean(theirs) - statistics.fmean(mine), None, "other seeds")
