"""Which pool images to ask about, before any answer is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.kcenter import pick_farthest_first
from fmsteal.base.errors import AttackError
from fmsteal.data.images import Ids, Images

Features = Callable[[], Tensor]
CHUNK = 1024  # rows whose distances to all others are in memory at a time


class PlainSelection(Protocol):
    """Chooses images without looking at them."""

    def __call__(self, pool: int, count: int, seed: int) -> Ids:
        """``count`` distinct ids below ``pool``."""
        ...


class FeatureSelection(Protocol):
    """Chooses images by a public trunk's features; recognised by an argument named ``features``."""

    def __call__(self, pool: int, count: int, seed: int, *, features: Features) -> Ids:
        """``count`` distinct ids below ``pool``; ``features()`` returns those of all pool images, ``(pool, D)``."""
        ...


Selection = PlainSelection | FeatureSelection


def select(selection: Selection, pool: Images, count: int, ctx: AttackContext) -> Ids:
    """Choose ``count`` pool images; a selection by features gets those of the thief's own public trunk.

    A choice by features is kept: on another machine features differ in the last digits, and would give other images.

    Raises:
        ConfigError: the selection looks at features, but the thief starts from scratch.
        AttackError: the selection chose another number of images, or one image twice.
    """
    if "features" not in inspect.signature(selection).parameters:
        return require_distinct(cast("PlainSelection", selection)(len(pool), count, ctx.seed), len(pool), count)

    def features() -> Tensor:
        return ctx.public_features(pool, np.arange(len(pool)))

    def choose() -> Ids:
        return cast("FeatureSelection", selection)(len(pool), count, ctx.seed, features=features)

    return require_distinct(ctx.kept("selection", choose), len(pool), count)


def require_distinct(ids: Ids, pool: int, count: int) -> Ids:
    """The ids that a selection chose, checked to be ``count`` distinct ids below ``pool``.

    Raises:
        AttackError: there are more or fewer, or they are not distinct or not below ``pool``.
    """
    ids = np.asarray(ids)
    fit = np.unique(ids[(ids >= 0) & (ids < pool)]) if ids.dtype.kind in "iu" else ids[:0]
    if ids.shape != (count,) or len(fit) != count:
        raise AttackError(
            f"attack.selection chose {ids.size} ids ({ids.dtype}), {len(fit)} of them different and below {pool}, "
            f"where {count} were due."
        )
    return ids.astype(np.int64, copy=False)


def random(pool: int, count: int, seed: int) -> Ids:
    """Chooses uniformly at random without replacement; nested: the choice of 1,000 begins with the choice of 100."""
    return np.random.default_rng((seed, 0x5E1EC7)).permutation(pool)[:count].astype(np.int64)


def kcenter_features(pool: int, count: int, seed: int, *, features: Features) -> Ids:
    """Greedy k-center (Sener & Savarese, ICLR 2018) on a public trunk's features, from a random first image; nested."""
    first, rows = random(pool, 1, seed), features()
    others = np.delete(np.arange(pool), first)
    return np.concatenate([first, others[pick_farthest_first(rows[others], rows[first], count - 1)]])[:count]


def herding(pool: int, count: int, seed: int, *, features: Features) -> Ids:
    """Adds in turn the image that brings the mean of the choice closest to the pool's (Welling, ICML 2009); nested.

    Features have unit length, as in iCaRL (Rebuffi et al., CVPR 2017, alg. 4): with m the pool's mean and s the sum of
    those chosen, ``argmin_x ||m - (s + x) / k||`` is ``argmax_x (k m - s) x``. The choice is the same for every seed.
    """
    rows = F.normalize(features().double())
    mean = rows.mean(dim=0)
    towards = rows @ mean
    scores, picks = torch.zeros(pool, dtype=torch.float64), np.empty(count, dtype=np.int64)
    for place in range(count):
        scores += towards
        pick = int(scores.argmax())
        scores -= rows @ rows[pick]
        scores[pick] = -torch.inf
        picks[place] = pick
    return picks


def typiclust(
    pool: int,
    count: int,
    seed: int,
    *,
    features: Features,
    neighbours: int = 20,
    most_clusters: int = 500,
    smallest: int = 5,
) -> Ids:
    """The most typical image of each of many clusters (TypiClust, Hacohen et al., ICML 2022), as in its code.

    Features of unit length are clustered by k-means into ``count`` clusters, at most ``most_clusters``. The clusters
    are visited by size, the largest first, over and over; each visit takes the cluster's image with the smallest mean
    distance to its nearest ``neighbours`` in the cluster (at most half of it). Clusters of fewer than ``smallest``
    images are outliers, used only when nothing else is left. Not nested: a smaller count gives other clusters.

    Args:
        pool: number of images in the pool.
        count: number of images to choose.
        seed: seed of k-means.
        features: returns the features of a public trunk.
        neighbours: nearest neighbours that typicality is measured by.
        most_clusters: maximum number of clusters.
        smallest: fewest images in a cluster that is not an outlier.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    rows = F.normalize(features().double())
    clusters = min(count, most_clusters)
    if clusters <= 50:
        means = KMeans(clusters, n_init=1, random_state=seed)
    else:
        means = MiniBatchKMeans(clusters, batch_size=5000, n_init=1, random_state=seed)
    labels = means.fit_predict(rows.numpy())
    members = sorted((np.flatnonzero(labels == cluster) for cluster in range(clusters)), key=len, reverse=True)
    whole = [ids for ids in members if len(ids) >= smallest]
    outliers = [ids for ids in members if len(ids) < smallest]
    return np.array([*_in_turn(whole, rows, count, neighbours), *_in_turn(outliers, rows, count, neighbours)])[:count]


def _in_turn(members: Sequence[Ids], rows: Tensor, count: int, neighbours: int) -> list[int]:
    """The most typical image of each cluster in turn, then of what is left of each, and so on; at most ``count``."""
    picks: list[int] = []
    left = [ids for ids in members if len(ids)]
    while left and len(picks) < count:
        for place, ids in enumerate(left[: count - len(picks)]):
            pick = find_most_typical(rows[ids], min(neighbours, len(ids) // 2))
            picks.append(int(ids[pick]))
            left[place] = np.delete(ids, pick)
        left = [ids for ids in left if len(ids)]
    return picks


def find_most_typical(rows: Tensor, neighbours: int) -> int:
    """The index of the unit-length row, of ``(n, D)``, with the least mean distance to its nearest neighbours."""
    if not neighbours:
        return 0
    means = []
    for start in range(0, len(rows), CHUNK):
        squares = 2 - 2 * rows[start : start + CHUNK] @ rows.T
        here = torch.arange(len(squares))
        squares[here, start + here] = torch.inf
        means.append(squares.topk(neighbours, largest=False).values.clamp(min=0).sqrt().mean(dim=1))
    return int(torch.cat(means).argmin())
