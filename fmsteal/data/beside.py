"""Labelled batches, each with a batch of images without answers beside it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids, Picked
from fmsteal.data.loader import TensorLoader, take_share


class Beside(TensorLoader):
    """Serves ``(inputs, targets, others)``; the others of a batch depend on ``(seed, epoch)`` alone, as its order does.

    An epoch is a pass over the labelled images. The others have an order of their own, which continues from epoch to
    epoch: all of them are seen equally often, to within one, however few or many there are.
    """

    def __init__(
        self,
        inputs: Tensor | Picked,
        targets: Tensor,
        batch_size: int,
        seed: int,
        *,
        others: Tensor | Picked,
        ratio: int = 1,
        each: int = 1,
        whole: bool = False,
        views: bool = False,
    ) -> None:
        """Serve ``inputs`` and ``targets`` as `TensorLoader` does, with ``ratio * batch_size`` of ``others (m, ...)``.

        Each of these is served ``each`` times, ``(each * ratio * batch_size, ...)``: all of them, then all again. With
        ``views``, others are ``(views, m, ...)`` too, and the repeats show different views while there are any left.
        """
        super().__init__(inputs, targets, batch_size, seed, whole=whole, views=views)
        self.others = others
        self.count = others.shape[1] if views else len(others)
        if not self.count:
            raise ValueError("no other images")
        self.size = ratio * batch_size
        self.each = each

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        random = np.random.default_rng((self.seed, self.epoch, 1))
        for number, batch in enumerate(super().__iter__()):
            yield *batch, self._shown(take_share(self.turn(self.epoch * len(self) + number)), random)

    def turn(self, batch: int) -> Ids:
        """The ids of the others in a batch; batches are counted from the start of the training."""
        start, stop = batch * self.size, (batch + 1) * self.size
        rounds = range(start // self.count, (stop - 1) // self.count + 1)
        order = np.concatenate([_permuted(self.count, self.seed, number) for number in rounds])
        return order[start - rounds[0] * self.count :][: self.size]

    def _shown(self, ids: Ids, random: np.random.Generator) -> Tensor:
        if not isinstance(self.others, Tensor):
            return torch.from_numpy(self.others[ids]).repeat(self.each, *[1] * (self.others.ndim - 1))
        if not self.views:
            return self.others[torch.from_numpy(np.tile(ids, self.each))]
        ranks = random.random((self.others.shape[0], len(ids))).argsort(axis=0)
        drawn = np.resize(ranks, (self.each, len(ids)))
        return self.others[torch.from_numpy(drawn.ravel()), torch.from_numpy(np.tile(ids, self.each))]


@functools.lru_cache(maxsize=2)
def _permuted(count: int, seed: int, number: int) -> Ids:
    """The order of all the others in one round."""
    return np.random.default_rng((seed, number, 2)).permutation(count)
