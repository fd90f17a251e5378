"""Processes that train together and do nothing else: what they need, and what remains of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from fmsteal import errors
from fmsteal.errors import FmstealError

SPAWN = "ddp_spawn"


class SyncedBatchNorm(LayerSync):
    """BatchNorm over the whole batch of all processes, by timm's hand.

    Torch's own conversion, Lightning's choice, leaves out the activation that many of timm's BatchNorm layers contain.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every BatchNorm below ``model``."""
        return cast("nn.Module", convert_sync_batchnorm(model))

    def revert(self, model: nn.Module) -> nn.Module:
        """Nothing: the process that trained ends, and takes its model along."""
        return model


@contextmanager
def training_processes() -> Iterator[None]:
    """Raise the error of a training process as what it was there; leave no port behind for the next to take."""
    port = os.environ.get("MASTER_PORT")
    try:
        yield
    except ProcessRaisedException as error:
        ours = re.findall(r"^fmsteal\.errors\.(\w+): (.*)", str(error), flags=re.MULTILINE | re.DOTALL)
        if not ours:
            raise
        name, message = ours[-1]
        raise getattr(errors, name, FmstealError)(message.strip()) from None
    finally:
        os.environ.pop("MASTER_PORT", None)
        if port is not None:
            os.environ["MASTER_PORT"] = port
