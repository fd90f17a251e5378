"""Batches by index slices over arrays in memory (or memory-mapped): no per-image Python, no worker processes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids, Picked


class TensorLoader:
    """Shuffled batches ``(inputs, targets)``; the order of an epoch depends on ``(seed, epoch)`` alone.

    So a resumed run sees the batches that an uninterrupted one would have seen. Lightning tells a loader's
    ``sampler`` the epoch; this loader is its own sampler. Processes that train together share every batch evenly: the
    batch size is that of one optimiser step, on however many devices.
    """

    def __init__(
        self,
        inputs: Tensor | Picked,
        targets: Tensor,
        batch_size: int,
        seed: int,
        *,
        whole: bool = False,
        views: bool = False,
    ) -> None:
        """Serve ``inputs`` (n, ...) with ``targets`` (n, ...).

        With ``views``, inputs are ``(views, n, ...)``, and an epoch takes one of each image's views at random.
        ``whole`` leaves out an epoch's last batch if it is not full (unless it is the only one): a batch of one or
        two images would upset BatchNorm. The order changes with every epoch, so no image is left out for long.
        """
        count = inputs.shape[1] if views else len(inputs)
        if count != len(targets):
            raise ValueError(f"{count} inputs, but {len(targets)} targets")
        self.inputs = inputs
        self.views = views
        self.targets = targets
        self.batch_size = batch_size
        self.seed = seed
        self.whole = whole
        self.epoch = 0

    @property
    def sampler(self) -> TensorLoader:
        """This loader itself."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        full = len(self.targets) // self.batch_size
        return full if self.whole and full else math.ceil(len(self.targets) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.targets))
        view = torch.from_numpy(random.integers(self.inputs.shape[0], size=len(order))) if self.views else None
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            ids = take_share(order[start : start + self.batch_size])
            picked = torch.from_numpy(ids)
            if not isinstance(self.inputs, Tensor):
                batch = torch.from_numpy(self.inputs[ids])
            else:
                batch = self.inputs[picked] if view is None else self.inputs[view[picked], picked]
            yield batch, self.targets[picked]


def take_share(batch: Ids) -> Ids:
    """This process's part of a batch; if the batch cannot be divided evenly, its first images are seen twice."""
    if not torch.distributed.is_initialized():
        return batch
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return np.resize(batch, math.ceil(len(batch) / processes) * processes)[rank::processes]
