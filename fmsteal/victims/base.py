"""The model behind the API."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmsteal.context import Context
from fmsteal.data.images import Ids, Images
from fmsteal.inference import in_batches, logits
from fmsteal.rows import Rows


@dataclass
class Victim:
    """A trained victim.

    Attributes:
        key: identifies it down to its weights: victims of one recipe made twice can differ in the last digits.
        model: raw images in, logits ``(n, C)`` out.
        forwards: images that went through the model in this process.
    """

    key: str
    model: nn.Module
    forwards: int = 0

    def raw(self, images: Images, ids: Ids, ctx: Context) -> Tensor:
        """Raw logits for ``images[ids]``, float32 ``(n, C)``; computed once, shared with other jobs."""

        stored = images.whole()

        def compute(missing: Ids) -> Rows:
            self.forwards += len(missing)
            return logits(self.model, stored, missing, ctx).numpy()

        cache = ctx.rows("answers", self.key, {"victim": self.key, "images": stored.digest})
        return torch.from_numpy(cache.get(images.place(ids), compute))

    def raw_images(self, images: Tensor, ctx: Context) -> Tensor:
        """Raw logits for float images ``(n, 3, H, W)`` in [0, 1]; never stored."""
        self.forwards += len(images)
        return in_batches(self.model, lambda part: images[part], len(images), ctx)
