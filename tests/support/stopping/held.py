"""Parts of a job that hold in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fmsteal.defenses.base import RowDefense
from fmsteal.evaluation.base import Found, Pair
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.oracle.guard import Ask
from fmsteal.training.context import Context
from tests.support.stopping.hold import hold


class Training(Callback):
    """Holds in ``training victim`` and in ``training thief``, after the first step."""

    def on_train_batch_end(self, trainer: Trainer, *about: Any) -> None:
        hold("training thief" if Path(trainer.default_root_dir).name == "thief" else "training victim")


class Querying(RowDefense):
    """Holds in ``querying``: the victim has answered, and nothing is paid for yet."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        hold("querying")
        return answers


class Measuring(ClassifierEvaluation):
    """Holds in ``measuring``: the theft is sealed."""

    def run(self, pair: Pair, ctx: Context) -> Found:
        hold("measuring")
        return super().run(pair, ctx)
