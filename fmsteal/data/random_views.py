"""Random views of images: a sequence of augmentation steps, drawn anew for every image each time it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.seeds import seed_block
from fmsteal.data.images import Ids, Images, Pixels

CHUNK = 256  # images of a set that are held as floats at a time
_AT_ONCE = 200_000  # pixels that stay in a core's cache from step to step: 1.5 to 2 times faster there than from memory


class Views(nn.Module):
    """Applies steps to whole batches, one after the other; without steps, an image stays as it is.

    Args:
        steps: modules from float images ``(n, 3, H, W)`` in [0, 1] to the same, with ``identity()``. Those that need
            the batch in one piece have a true attribute ``whole``.
    """

    def __init__(self, steps: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.whole = any(getattr(step, "whole", False) for step in steps)

    def identity(self) -> list[dict[str, Any]]:
        """The settings that decide the views, step by step."""
        return [{"class": type(step).__name__, "settings": cast(Any, step).identity()} for step in self.steps]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """One view of each uint8 or [0, 1] float image ``(n, 3, H, W)``; float in [0, 1], without a gradient."""
        if self.whole or images.device.type != "cpu":
            return self._viewed(images)
        seen = torch.empty_like(images, dtype=torch.float32 if images.dtype == torch.uint8 else images.dtype)
        at_once = max(1, _AT_ONCE // max(1, images.shape[-2] * images.shape[-1]))
        for view, part in zip(seen.split(at_once), images.split(at_once), strict=True):
            view.copy_(self._viewed(part))
        return seen

    def _viewed(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        for step in self.steps:
            x = step(x)
        return x.clamp(0, 1)


def draw_views(views: nn.Module, images: Images, ids: Ids, *name: object) -> Pixels:
    """A random view of each of ``images[ids]``, uint8 ``(n, 3, H, W)``; the same name always gives the same views.

    They are uint8 because what an attacker sends to an API is a file with 8 bits per channel.
    """
    out = np.empty((len(ids), *images.pixels.shape[1:]), np.uint8)
    with seed_block("drawn", *name), torch.no_grad():
        for start in range(0, len(ids), CHUNK):
            part = slice(start, start + CHUNK)
            seen = views(torch.from_numpy(np.array(images.pixels[ids[part]])))
            out[part] = (seen * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return out
