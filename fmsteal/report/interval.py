"""How far a mean over seeds can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean; None for fewer than two values."""
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes a second to import

    if len(values) < 2:
        return None
    half = stdtrit(len(values) - 1, (1 + confidence) / 2) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - float(half), mean + float(half)


def interval_text(values: Sequence[float]) -> str:
    """The interval as text; for a single seed there is none."""
    interval = student_interval(values)
    return "one seed" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
