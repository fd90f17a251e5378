"""Victims trained on the task's labels: made once, kept in the store, and found there by every later job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from fmsteal.base.errors import DataError
from fmsteal.base.store import checksum
from fmsteal.data.images import Task
from fmsteal.identity.rules import Ignores
from fmsteal.training.classifier import save_weights
from fmsteal.training.context import Context
from fmsteal.training.learners import IS_CONVEX, ClassifierLearner
from fmsteal.training.recipe import STEPS
from fmsteal.victims.base import Victim, VictimMaker


@dataclass(frozen=True)
class ClassifierVictim(ClassifierLearner, VictimMaker):
    """A classifier fitted to the task's training split (for its attributes see `ClassifierLearner`)."""

    ignores: ClassVar[Ignores] = {
        **ClassifierLearner.ignores,
        "recipe.augment": {"adaptation": "probe", "recipe.views": 0},
        **dict.fromkeys(["seed", *(f"recipe.{step}" for step in STEPS)], IS_CONVEX),
    }

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The trained victim, from the store if any job has made it before."""
        spec = {
            "learner": self.identity(),
            "trainer": ctx.training.identity(),
            "data": task.train.digest,
            "classes": task.num_classes,
        }
        slug = f"{self.backbone.model}-{self.adaptation}-{'convex' if self.is_convex else f's{self.seed}'}"
        place = ctx.store.get("victims", slug, spec, lambda out, scratch: self._train(task, ctx, out, scratch))
        model = self.build(task.num_classes, role="victim")
        weights = place / "weights.safetensors"
        model.trained.load_state_dict(load_file(weights))
        return Victim(key=f"{place.name}-{checksum(weights)[:8]}", model=model.eval(), place=place)

    def _train(self, task: Task, ctx: Context, out: Path, scratch: Path) -> None:
        if task.train.labels is None:
            raise DataError("The victim is trained on labels, but the task's training images have none: data=... .")
        labels = torch.from_numpy(np.array(task.train.labels))
        ids = np.arange(len(task.train))
        loss = partial(F.cross_entropy, label_smoothing=self.recipe.label_smoothing)
        model = self.fit(
            task.train, ids, labels, task.num_classes, loss, ctx, stage="victim", scratch=scratch, role="victim"
        )
        save_weights(model, out / "weights.safetensors")
