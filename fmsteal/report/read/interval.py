"""Intervals of means over seeds, and what they cover."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 3  # seeds for an interval; two are shown as two points
NORMAL = 1.959963984540054  # quantile of a 95 % interval
SHARE = (0, 1)
MOST = 1e6  # degrees of freedom at which Student's t counts as the normal distribution

SEEDS, IMAGES, BOTH = "seeds", "test images", "seeds and test images"  # what an interval can cover
Bounds = tuple[float | None, float | None]  # the least and the greatest possible value of a figure; None: unlimited
Interval = tuple[float, float]


@dataclass(frozen=True)
class SeedFigure:
    """The figure of a seed.

    Attributes:
        value: the figure.
        images: the number of test images that it is a share of; None if it is not a share.
        test: names the test images; points where it is None are taken to have the same images.
    """

    value: float
    images: float | None = None
    test: str | None = None


def interval_over(points: Sequence[SeedFigure], bounds: Bounds = (None, None)) -> tuple[Interval | None, str]:
    """The 95 % interval of a mean over seeds, and what it covers: `share_interval` of shares, else `student_interval`.

    None and "" for fewer than three seeds, and for figures other than shares that are all the same.
    """
    values = [point.value for point in points]
    if len(points) < FEWEST:
        return None, ""
    if bounds == SHARE and all(point.images is not None for point in points):
        return share_interval(points), IMAGES if are_alike(values) else BOTH
    interval = student_interval(values, bounds)
    return interval, SEEDS if interval else ""


def share_interval(points: Sequence[SeedFigure]) -> Interval:
    """The 95 % interval of a share's mean over three seeds or more, where both seeds and test images are random.

    The mean m of n seeds has the variance V = S + C. S = s^2 / n is estimated from the spread of the seeds. It contains
    what differs between them: training, questions, and test images if each seed has its own (then C = 0). C is the mean
    covariance of two seeds that are judged on the same images, which the spread does not show: (min(p, q) - p q) / N,
    the greatest that shares p and q of N images can have (Frechet's bound); it is 0 for pairs with different images. If
    thieves err on different images, the interval is wider than necessary, never narrower.

    On the logit scale, which is unbounded: logit m +- t sqrt(V) / (m (1 - m)), Student's t with (n - 1) V / S degrees
    of freedom, and never less than Student's interval of the seeds alone. The degrees of freedom are n - 1 if all
    variance is that of the seeds, and unlimited if it is that of the images; in between they are fewer than
    Satterthwaite's (n - 1) (V / S)^2, whose intervals of three seeds cover only 92 %. Simulated coverage is 93 to 97 %
    at n = 3, 5, 10 and p = .5, .9, .99 (``tests/report/read/test_interval.py``).

    If all seeds are alike, only the images' variance is left: Wilson's interval of the number of images that gives V.
    """
    from scipy.special import expit, logit, stdtrit  # scipy.stats takes a second to import

    values, n = [point.value for point in points], len(points)
    mean = math.fsum(values) / n
    if are_alike(values):
        own = math.fsum(1 / (point.images or 1) for point in points) / n
        return wilson(mean, 1 / (own / n + _common(points) * (n - 1) / n))
    seeds = math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n
    whole, slope = seeds + _covariance(points), mean * (1 - mean)
    freedom = min((n - 1) * whole / seeds, MOST)
    half = max(float(stdtrit(df, 0.975)) * math.sqrt(v) for df, v in ((freedom, whole), (n - 1, seeds))) / slope
    return float(expit(logit(mean) - half)), float(expit(logit(mean) + half))


def _covariance(points: Sequence[SeedFigure]) -> float:
    """The greatest covariance that common test images can cause, averaged over all pairs of seeds."""
    return _over_pairs([(p.test, p.value, 1 - p.value, p.images or 1) for p in sorted(points, key=lambda p: p.value)])


def _common(points: Sequence[SeedFigure]) -> float:
    """The same covariance for figures that are all alike, as a multiple of p (1 - p)."""
    return _over_pairs([(point.test, 1, 1, point.images or 1) for point in points])


def _over_pairs(rows: Sequence[tuple[str | None, float, float, float]]) -> float:
    """The mean over pairs i < j of rows (test, a, b, N) of a_i b_j / sqrt(N_i N_j), 0 for pairs of different tests."""
    before: dict[str | None, float] = {}
    total = 0.0
    for test, a, b, images in rows:
        root = math.sqrt(images)
        total += before.get(test, 0.0) * b / root
        before[test] = before.get(test, 0.0) + a / root
    return total / (len(rows) * (len(rows) - 1) / 2)


def count_images(share: float, interval: Interval | None) -> float | None:
    """The number of images that a figure with this 95 % interval is a share of; None if it is not a share's.

    Wilson's ends e solve (p - e)^2 = z^2 e (1 - e) / n.
    """
    if interval is None or not 0 <= interval[0] <= share <= interval[1] <= 1:
        return None
    end = max(interval, key=lambda e: abs(e - share))
    return NORMAL**2 * end * (1 - end) / (share - end) ** 2 if 0 < end < 1 and end != share else None


def wilson(share: float, images: float) -> Interval:
    """Wilson's 95 % score interval of a share of n images."""
    z = NORMAL
    centre, half = share + z**2 / (2 * images), z * math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return max((centre - half) / (1 + z**2 / images), 0.0), min((centre + half) / (1 + z**2 / images), 1.0)


def student_interval(
    values: Sequence[float], bounds: Bounds = (None, None), confidence: float = 0.95
) -> Interval | None:
    """Student's t interval of the mean, clipped to the bounds of the values.

    None for fewer than three values, and for values that are all the same, which do not show how far off the mean is.
    """
    from scipy.special import stdtrit

    if len(values) < FEWEST or are_alike(values):
        return None
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return clip_interval((mean - half, mean + half), bounds)


def student_p(values: Sequence[float]) -> float | None:
    """The two-sided p-value of the mean against 0, by Student's t; None where there is no interval."""
    from scipy.special import stdtr

    if len(values) < FEWEST or are_alike(values):
        return None
    t = statistics.fmean(values) / (statistics.stdev(values) / math.sqrt(len(values)))
    return 2 * float(stdtr(len(values) - 1, -abs(t)))


def are_alike(values: Sequence[float]) -> bool:
    """Whether values are equal up to rounding."""
    return math.isclose(min(values), max(values), rel_tol=1e-9, abs_tol=1e-12)


def clip_interval(interval: Interval, bounds: Bounds) -> Interval:
    """The part of an interval that lies within bounds."""
    low, high = (-math.inf if bounds[0] is None else bounds[0]), (math.inf if bounds[1] is None else bounds[1])
    return max(interval[0], low), min(interval[1], high)
