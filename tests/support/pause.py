"""A Lightning callback that makes an epoch last, without work, and writes down each epoch that was trained."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Pause(Callback):
    """After an epoch PAUSE_SECONDS of sleep and a line in PAUSE_TRACE; a thief waits for the file PAUSE_UNTIL, from its
    epoch PAUSE_FROM (0) on.

    A training below a folder whose name has PAUSE_FAILS in it raises.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if os.environ.get("PAUSE_FAILS", os.sep * 2) in str(trainer.default_root_dir):
            raise RuntimeError("a bug in this training")
        time.sleep(float(os.environ.get("PAUSE_SECONDS", "0")))
        if "PAUSE_TRACE" in os.environ:
            with Path(os.environ["PAUSE_TRACE"]).open("a") as trace:
                trace.write(f"{Path(trainer.default_root_dir).name} {trainer.current_epoch}\n")
        waits = Path(trainer.default_root_dir).name == "thief" and "PAUSE_UNTIL" in os.environ
        if waits and trainer.current_epoch >= int(os.environ.get("PAUSE_FROM", "0")):
            while not Path(os.environ["PAUSE_UNTIL"]).exists():
                time.sleep(0.1)
