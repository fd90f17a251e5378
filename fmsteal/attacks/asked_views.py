"""A transfer set of augmented views, drawn and asked about once, or anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Picked, Pixels
from fmsteal.data.loader import TensorLoader
from fmsteal.oracle.blocks import ANSWERED_AT_ONCE
from fmsteal.oracle.oracle import Oracle


class AskedViews(TensorLoader):
    """Serves the views of an epoch with the API's answers to them.

    A training resumed in a later epoch first asks about the views of the earlier epochs again. The ledger answers
    these, so the questions are counted as in a run that was never killed.
    """

    def __init__(
        self, views_of: Callable[[int], tuple[Pixels, Tensor]], batch_size: int, seed: int, *, anew: bool
    ) -> None:
        """Ask about the views of the first epoch and, with ``anew``, about new views in each later epoch.

        ``views_of(epoch)`` returns the views to train on, uint8 ``(n, 3, H, W)``, and embeddings ``(n, D)``.
        """
        shown, answers = views_of(0)
        super().__init__(_all(shown), answers, batch_size, seed, whole=True)
        self._views_of = views_of if anew else None
        self._asked = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the order of the next pass, and ask about its views."""
        super().set_epoch(epoch)
        while self._views_of is not None and self._asked < epoch:
            self._asked += 1
            shown, self.targets = self._views_of(self._asked)
            self.inputs = _all(shown)


def ask_views(oracle: Oracle, views: Pixels) -> Tensor:
    """The API's answers to views, uint8 ``(n, 3, H, W)``, converted to floating point in blocks to save memory."""
    blocks = range(0, len(views), ANSWERED_AT_ONCE)
    parts = (torch.from_numpy(views[start : start + ANSWERED_AT_ONCE]).float() / 255 for start in blocks)
    return torch.cat([oracle.ask_images(part) for part in parts])


def _all(views: Pixels) -> Picked:
    return Picked(views, np.arange(len(views)))
