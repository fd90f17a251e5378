"""A linear classifier, fitted to random numbers by the trainer."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from fmsteal.base.progress import Progress
from fmsteal.base.seeds import seed_block
from fmsteal.config import build
from fmsteal.data.loader import TensorLoader
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe
from fmsteal.training.trainer import Training
from tests.support.composing import composed

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


Y = torch.arange(40) % 3


def training(**fields: object) -> Training:
    made: Training = build.make(composed("trainer=cpu", *[f"trainer.{k}={v}" for k, v in fields.items()]).trainer)
    return made


def fitted(
    folder: Path, recipe: Recipe, net: nn.Module, trainer: Training | None = None, x: torch.Tensor = X
) -> nn.Module:
    folder.mkdir(exist_ok=True)
    module = SupervisedModule(net, F.cross_entropy, recipe, seed=5)
    loader = TensorLoader(x, Y, recipe.batch_size, seed=7)
    (trainer or training()).fit(
        module, loader, stage="thief", scratch=folder, tracker=CsvTracker(folder), progress=Progress()
    )
    return net


def linear() -> nn.Linear:
    with seed_block("head"):
        return nn.Linear(6, 3)
