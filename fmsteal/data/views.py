"""Fixed random views: an augmentation drawn once for each image, so results computed from it can be kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.seeds import seed_block
from fmsteal.data.augment import Augment, RandomAffine, apply_augment, describe
from fmsteal.data.images import Ids, Images


@dataclass(frozen=True)
class View:
    """View ``number`` of every image: always the same, in any batch."""

    augment: Augment
    number: int

    def identity(self) -> dict[str, Any]:
        """The settings that decide the view."""
        return {"augment": describe(self.augment), "number": self.number}

    def of(self, images: Images, ids: Ids) -> Tensor:
        """The view of the images ``ids``, float ``(n, 3, H, W)`` in [0, 1]."""
        pixels = torch.from_numpy(np.array(images.pixels[ids]))
        if isinstance(self.augment, RandomAffine):
            return self.augment.move(pixels, _drawn(self.augment, self.number, len(images))[torch.from_numpy(ids)])
        seen = []
        for at, image in enumerate(ids.tolist()):  # one at a time: what it draws must not depend on its batch
            with seed_block("view", self.number, image):
                seen.append(apply_augment(self.augment, pixels[at : at + 1]))
        return torch.cat(seen)


@functools.lru_cache(maxsize=4)
def _drawn(augment: RandomAffine, number: int, count: int) -> Tensor:
    """The maps ``(count, 2, 3)`` of a view, for every image of a set."""
    with seed_block("view", number):
        return augment.matrices(count)
