"""Processes that train one model together: synchronised BatchNorm, their errors, and cleaning up after them."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.multiprocessing import ProcessRaisedException

from fmsteal.base import errors
from fmsteal.base.errors import FmstealError

SPAWN = "ddp_spawn"


class SyncedBatchNorm(LayerSync):
    """BatchNorm over the whole batch of all processes, converted by timm.

    Torch's own conversion, which Lightning uses, drops the activation that many of timm's BatchNorm layers contain.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every BatchNorm below ``model``."""
        return cast("nn.Module", convert_sync_batchnorm(model))

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: the training process ends, and its model with it."""
        return model


@contextmanager
def run_training_processes() -> Iterator[None]:
    """Re-raise a training process's error with its own type, and restore MASTER_PORT afterwards.

    If this process is interrupted, kill the training processes: Python would wait for them before exiting.
    """
    port, others = os.environ.get("MASTER_PORT"), set(multiprocessing.active_children())
    try:
        yield
    except ProcessRaisedException as error:
        ours = re.findall(rf"^{re.escape(errors.__name__)}\.(\w+): (.*)", str(error), flags=re.MULTILINE | re.DOTALL)
        if not ours:
            raise
        name, message = ours[-1]
        raise getattr(errors, name, FmstealError)(message.strip()) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        os.environ.pop("MASTER_PORT", None)
        if port is not None:
            os.environ["MASTER_PORT"] = port
