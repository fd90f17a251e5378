from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from fmsteal.evaluation import metrics
from fmsteal.report.read.interval import (
    BOTH,
    IMAGES,
    SEEDS,
    SeedFigure,
    count_images,
    interval_over,
    share_interval,
    wilson,
)

REPEATED = 2000


def draw(p: float, seeds: int, images: int, spread: float, same: bool) -> tuple[np.ndarray, float]:
    """Shares ``(REPEATED, seeds)`` of thieves whose logits scatter, and the mean of the shares they stand for.

    Judged by the same images: each image has a difficulty, and a thief is right up to its own. Else each by its own.
    """
    rng = np.random.default_rng([seeds, images, round(1000 * p), round(100 * spread), same])
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    truth = float(expit(logit(p) + spread * nodes) @ weights / weights.sum())
    chance = expit(logit(p) + spread * rng.standard_normal((REPEATED, seeds)))
    if not same:
        return rng.binomial(images, chance) / images, truth
    hits, right, before = np.zeros_like(chance), np.zeros(REPEATED, int), np.zeros(REPEATED)
    for place in np.sort(chance, 1).T:  # of the images that the weaker thieves are wrong on, those this one knows
        right = right + rng.binomial(images - right, (place - before) / (1 - before))
        before = place
        hits[:, (hits == 0).all(0).argmax()] = right
    return hits / images, truth


@pytest.mark.parametrize("same", [False, True], ids=["own images", "the same images"])
@pytest.mark.parametrize(("images", "spread"), [(1000, 0.0), (1000, 0.2), (10_000, 0.1)])
def test_intervals_of_shares_cover_what_they_say(images: int, spread: float, same: bool) -> None:
    covered = {}
    for p, seeds in product((0.5, 0.9, 0.99), (3, 5, 10)):
        shares, truth = draw(p, seeds, images, spread, same)
        inside = 0
        for number, row in enumerate(shares.tolist()):
            tests = [None if same else f"{number}-{seed}" for seed in range(seeds)]
            low, high = share_interval([SeedFigure(v, images, t) for v, t in zip(row, tests, strict=True)])
            inside += low <= truth <= high
        covered[p, seeds] = inside / REPEATED
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered


@pytest.mark.parametrize("count", [500, 20, 90_000], ids=["both tell", "few images", "many images"])
def test_the_variance_of_shares_is_that_of_a_plain_loop(count: int) -> None:
    """V from all pairs, one by one, of seeds of which some share their images."""
    shares, images, tests = [0.80, 0.83, 0.78, 0.90, 0.85], [count, count, count, 200, 300], ["a", "a", "a", "b", None]
    n, mean = len(shares), np.mean(shares)
    pairs = [
        (min(shares[i], shares[j]) - shares[i] * shares[j]) / np.sqrt(images[i] * images[j]) * (tests[i] == tests[j])
        for i in range(n)
        for j in range(i)
    ]
    seeds, whole = np.var(shares, ddof=1) / n, np.var(shares, ddof=1) / n + np.mean(pairs)
    half = max(stats.t.ppf(0.975, (n - 1) * whole / seeds) * np.sqrt(whole), stats.t.ppf(0.975, n - 1) * np.sqrt(seeds))
    want = expit(logit(mean) + np.array([-1, 1]) * half / (mean * (1 - mean)))
    points = [SeedFigure(*each) for each in zip(shares, images, tests, strict=True)]
    assert share_interval(points) == pytest.approx(tuple(want), abs=1e-12)
    assert share_interval(points[::-1]) == pytest.approx(tuple(want), abs=1e-12)


def test_seeds_that_are_all_alike_leave_the_images() -> None:
    same, own = [SeedFigure(0.97, 300)] * 4, [SeedFigure(0.97, 300, str(seed)) for seed in range(4)]
    assert share_interval(same) == pytest.approx(metrics.wilson(0.97, 300))
    assert share_interval(own) == pytest.approx(metrics.wilson(0.97, 1200))
    assert interval_over([SeedFigure(1.0, 600)] * 3, (0, 1)) == (pytest.approx(metrics.wilson(1.0, 600)), IMAGES)
    assert share_interval([SeedFigure(1, 50, "a"), SeedFigure(1, 50, "a"), SeedFigure(1, 50, "b")]) == pytest.approx(
        wilson(1, 1 / (1 / 150 + 1 / 3 * 2 / 3 / 50))
    )


def test_an_interval_says_what_it_covers() -> None:
    shares = [SeedFigure(0.8, 100), SeedFigure(0.9, 100), SeedFigure(0.85, 100)]
    assert interval_over(shares[:2], (0, 1)) == (None, "")
    assert interval_over(shares, (0, 1)) == (share_interval(shares), BOTH)
    plain = [SeedFigure(0.8), SeedFigure(0.9), SeedFigure(0.85, 100)]
    low, high = stats.t.interval(0.95, 2, loc=0.85, scale=stats.sem([0.8, 0.9, 0.85]))
    assert interval_over(plain, (0, 1)) == (pytest.approx((low, high)), SEEDS)
    assert interval_over(shares, (0, None)) == (pytest.approx((low, high)), SEEDS)
    assert interval_over([SeedFigure(0.5)] * 3) == (None, "")


@pytest.mark.parametrize("share", [0.0, 0.004, 0.5, 0.83, 1.0])
def test_a_shares_interval_tells_its_images(share: float) -> None:
    assert count_images(share, metrics.wilson(share, 500)) == pytest.approx(500)
    assert wilson(share, 500) == pytest.approx(metrics.wilson(share, 500), abs=1e-12)


def test_what_is_no_shares_interval_tells_no_images() -> None:
    for value, interval in ((0.5, None), (94.0, (93.0, 95.0)), (0.5, (0.6, 0.7)), (0.5, (0.5, 0.5)), (0.5, (0.0, 1.0))):
        assert count_images(value, interval) is None
