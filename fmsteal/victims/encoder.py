"""Encoders behind an embedding API, pretrained by others or trained on the task's labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fmsteal.base.store import digest
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.identity.rules import Ignores
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from fmsteal.victims.classifier import ClassifierVictim


@dataclass(frozen=True)
class EncoderVictim(ClassifierVictim):
    """The trunk of a classifier, without its head (for its attributes see `ClassifierLearner`).

    ``probe`` is the pretrained trunk as it is: nothing is trained, and recipe and seed have no effect. Any other
    adaptation first trains the classifier on the task's labels, the same one that `ClassifierVictim` makes and keeps.
    """

    answers: ClassVar[Answers] = "embeddings"
    ignores: ClassVar[Ignores] = {
        **ClassifierVictim.ignores,
        "recipe": {"adaptation": "probe"},
        "seed": {"adaptation": "probe"},
    }

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the data."""
        if self.adaptation != "probe":
            return super().identity()
        return {"backbone": self.backbone.identity(pretrained=True), "adaptation": self.adaptation}

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The encoder: raw images in, embeddings ``(n, D)`` out."""
        if self.adaptation == "probe":
            model = self.backbone.build(pretrained=True)
            return Victim(f"{self.backbone.model}-{digest(self.identity())[:16]}", model.eval(), self.answers)
        trained = super().prepare(task, ctx)
        assert isinstance(trained.model, Classifier)
        return Victim(f"{trained.key}-trunk", trained.model.backbone, self.answers, place=trained.place)
