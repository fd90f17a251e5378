"""Images that a victim was not made for, chosen by its defender for outlier exposure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config import build
from fmsteal.data.images import Images

if TYPE_CHECKING:
    from fmsteal.base.store import Store

AT_ONCE = 1000  # images that are resized together


class Outliers:
    """A set of public images, stored as the config node of a query set and made when loaded.

    They are the defender's own choice. An attacker who asks about the very same images would meet a defense that was
    trained on them, so their seed is not the job's.
    """

    def __init__(self, images: Mapping[str, Any]) -> None:
        """``images`` is a choice of ``conf/query`` that needs no task."""
        self.images = images

    def load(self, train: Images, store: Store) -> Images:
        """The images, uint8 ``(m, 3, h, w)``, in the size of the training images, with which they share batches.

        Raises:
            ConfigError: the node does not make images.
            DataError: there are no images.
        """
        found: object = build.make(OmegaConf.create(dict(self.images)), store=store)
        if not isinstance(found, Images):
            raise ConfigError(
                f"defense.outliers.images must be a query set, not {type(found).__name__}: "
                "query@defense.outliers.images=procedural."
            )
        if not len(found):
            raise DataError("defense.outliers.images holds no images: query@defense.outliers.images=procedural.")
        return resize(found, train.pixels.shape[2:])


def resize(images: Images, size: tuple[int, ...]) -> Images:
    """The images at ``size`` (height, width), without labels: unchanged if they have it, else resized bilinearly."""
    if images.pixels.shape[2:] == size:
        return images.unlabelled()
    made = np.empty((len(images), 3, *size), np.uint8)
    for start in range(0, len(images), AT_ONCE):
        part = torch.from_numpy(np.array(images.pixels[np.arange(start, min(start + AT_ONCE, len(images)))])).float()
        seen = F.interpolate(part, size, mode="bilinear", antialias=True, align_corners=False)
        made[start : start + len(part)] = seen.round().clip(0, 255).to(torch.uint8).numpy()
    return Images.of(made)
