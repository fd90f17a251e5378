"""Encoders pre-trained here by SimCLR, on the task's training images without their labels; kept in the store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.base.store import checksum
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.data.loader import TensorLoader
from fmsteal.data.random_views import Views
from fmsteal.networks.backbones import BackboneSpec, set_memory_format
from fmsteal.training.classifier import save_weights
from fmsteal.training.context import Context
from fmsteal.training.recipe import Recipe
from fmsteal.training.simclr import Projected, SimCLRModule
from fmsteal.victims.base import Victim, VictimMaker


@dataclass(frozen=True)
class SimCLRVictim(VictimMaker):
    """An encoder behind an embedding API, pre-trained from a random initialisation.

    Attributes:
        backbone: the trunk and how it sees images, without weights.
        recipe: optimiser, schedule, epochs; without augmentation.
        views: draws a random view of each image.
        temperature: temperature of NT-Xent.
        projection: width of the projections that are compared.
        seed: seed of initialisation, order and views.
        adaptation: how the trunk is made.
    """

    answers: ClassVar[Answers] = "embeddings"

    backbone: BackboneSpec
    recipe: Recipe
    views: Views = field(compare=False)
    temperature: float = 0.5
    projection: int = 128
    seed: int = 0
    adaptation: Literal["simclr"] = "simclr"

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.projection < 1:
            raise ConfigError(
                "SimCLR needs victim.temperature > 0 and victim.projection >= 1; given: "
                f"{self.temperature}, {self.projection}."
            )
        if self.recipe.batch_size < 2:
            raise ConfigError("SimCLR contrasts the images of a batch: victim.recipe.batch_size must be at least 2.")
        if self.recipe.augment is not None:
            raise ConfigError("SimCLR's augmentation is victim.views: victim.recipe.augment must be null.")
        if self.backbone.weights is not None:
            raise ConfigError(
                f"SimCLR pre-trains from a random initialisation, but victim.backbone.weights={self.backbone.weights}. "
                "Leave them null; to put those weights behind the API as they are: "
                "victim._target_=fmsteal.victims.encoder.EncoderVictim (victim=simclr_imagenet_resnet50)."
            )

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the data."""
        return {
            "backbone": self.backbone.identity(pretrained=False),
            "adaptation": self.adaptation,
            "recipe": self.recipe.identity(),
            "views": self.views.identity(),
            "temperature": self.temperature,
            "projection": self.projection,
            "seed": self.seed,
        }

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The pre-trained encoder, from the store if any job has made it before."""
        spec = {"learner": self.identity(), "trainer": ctx.training.identity(), "data": task.train.digest}
        slug = f"{self.backbone.model}-{self.adaptation}-s{self.seed}"
        place = ctx.store.get("victims", slug, spec, lambda out, scratch: self._train(task, ctx, out, scratch))
        weights = place / "weights.safetensors"
        model = replace(self.backbone, weights=str(weights)).build(pretrained=True)
        return Victim(f"{place.name}-{checksum(weights)[:8]}", model.eval(), self.answers, place=place)

    def _train(self, task: Task, ctx: Context, out: Path, scratch: Path) -> None:
        with seed_block("victim", "init", self.seed):
            net = Projected(self.backbone.build(pretrained=False), self.projection)
        ids = np.arange(len(task.train))
        loader = TensorLoader(
            task.train.picked(ids),
            torch.zeros(len(ids)),  # no labels
            self.recipe.batch_size,
            derive_seed("victim", "order", self.seed),
            whole=True,
        )
        module = SimCLRModule(
            set_memory_format(net, ctx.training.layout),
            self.views,
            self.temperature,
            self.recipe.for_steps(len(loader)),
            derive_seed("victim", "epochs", self.seed),
        )
        ctx.training.fit(module, loader, stage="victim", scratch=scratch, tracker=ctx.tracker, progress=ctx.progress)
        encoder = nn.ModuleDict({"backbone": net.backbone.cpu()})  # the head is dropped
        save_weights(encoder, out / "weights.safetensors")
