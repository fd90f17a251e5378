"""Fixed random views: an augmentation drawn once for each image, so that what is computed of it can be kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.augment import RandomAffine
from fmsteal.data.images import Ids, Images
from fmsteal.seeds import seeded


@dataclass(frozen=True)
class View:
    """View ``number`` of every image: the same whenever it is looked at, in whatever company."""

    augment: RandomAffine
    number: int

    def identity(self) -> dict[str, Any]:
        """The settings that decide the view."""
        return {"augment": self.augment.identity(), "number": self.number}

    def of(self, images: Images, ids: Ids) -> Tensor:
        """The view of the images ``ids``, float ``(n, 3, H, W)`` in [0, 1]."""
        drawn = _drawn(self.augment, self.number, len(images))[torch.from_numpy(ids)]
        return self.augment.moved(torch.from_numpy(np.array(images.pixels[ids])), drawn)


@functools.lru_cache(maxsize=4)
def _drawn(augment: RandomAffine, number: int, count: int) -> Tensor:
    """The maps ``(count, 2, 3)`` of a view, for every image of a set."""
    with seeded("view", number):
        return augment.matrices(count)
