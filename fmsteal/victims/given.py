"""Victims trained elsewhere: any model that Python can call. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from fmsteal.base.errors import ConfigError, FmstealError, VictimError
from fmsteal.base.store import digest
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.identity.rules import Ignores
from fmsteal.networks.backbones import Backbone, find_statistics
from fmsteal.networks.given import Answering, Outside, Pixels, load, spell_error
from fmsteal.training.context import Context
from fmsteal.training.inference import run_in_batches
from fmsteal.victims.base import Victim, VictimMaker

RAW = "raw"


@dataclass(frozen=True)
class GivenVictim(VictimMaker):
    """A classifier used as it is given. Its key depends on its weights, or for a black box on its answers to 8 images.

    Attributes:
        model: ``pkg.module:name`` or the path of a file: see `fmsteal.networks.given.load`.
        options: keyword arguments of a function or class that makes the model.
        outputs: ``logits`` or ``probabilities``; None: logits for a torch model, probabilities for anything else.
        size: side in pixels of the square images that the model sees; None: the stored size.
        normalise: as in `BackboneSpec`, or ``raw`` for uint8 images as they are stored; None: raw for a function of
            images, else floats in [0, 1].
        deterministic: whether a black box gives the same answer to an image each time; if not, it cannot be recognised
            by its answers, and jobs with the same settings are taken to share one victim.
        adaptation: always ``given``: it is not trained here.
    """

    answers: ClassVar[Answers] = "probabilities"

    model: str
    options: Mapping[str, Any] | None = None
    outputs: Literal["logits", "probabilities"] | None = None
    size: int | None = None
    normalise: str | Mapping[str, Sequence[float]] | None = None
    deterministic: bool = True
    adaptation: Literal["given"] = "given"

    @property
    def pretrained(self) -> bool:
        """Whether it starts from a backbone's weights: never."""
        return False

    @property
    def gradients(self) -> bool:  # type: ignore[override]
        """Whether its outputs can be differentiated by the images; true for a torch model."""
        return isinstance(load(self.model, self.options or {}), nn.Module)

    def identity(self) -> dict[str, Any]:
        """All settings that affect the result, apart from the model's contents."""
        return {
            "model": self.model, "options": dict(self.options or {}), "outputs": self.outputs, "size": self.size,
            "normalise": self.normalise,
        }  # fmt: skip

    def require_makeable(self) -> None:
        """Check that the model can be loaded and that its preprocessing is valid.

        Raises:
            ConfigError: ``model`` names no model, or its options or preprocessing do not fit.
            DataError: its file is missing, or holds something else.
        """
        if self.normalise == RAW and self.size is not None:
            raise ConfigError("victim.normalise=raw shows images as they are stored: leave out victim.size.")
        self._statistics()
        load(self.model, self.options or {})

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The victim: raw images in, logits ``(n, C)`` or embeddings ``(n, D)`` out. It is tried on one image.

        Raises:
            VictimError: it fails on the image, or its number of classes is not the task's.
        """
        model = self._build(load(self.model, self.options or {}), task.test.pixels.shape[-1])
        first = torch.from_numpy(np.array(task.test.pixels[:1]))
        try:
            width = run_in_batches(model, lambda part: first[part], 1, ctx).shape[1]
        except FmstealError:
            raise
        except Exception as error:
            raise VictimError(
                f"victim.model={self.model} failed on an image of {tuple(first.shape[1:])} ({spell_error(error)}). "
                "What it is shown: victim.size, victim.normalise."
            ) from error
        self._require_width(width, task)
        model.num_features = width
        slug = self.model.replace(":", ".").rpartition("/")[2][-40:]
        return Victim(
            f"{slug}-{digest(self.identity())[:16]}", model.eval(), self.answers, given=True,
            deterministic=self.deterministic,
        )  # fmt: skip

    def _require_width(self, width: int, task: Task) -> None:
        if width != task.num_classes:
            raise VictimError(
                f"victim.model={self.model} has {width} classes, the data set {task.num_classes}: choose the data set "
                "that it was trained for (data=...), with its classes in the same order."
            )

    def _build(self, found: Any, stored: int) -> Backbone | Pixels:
        torch_model = isinstance(found, nn.Module)
        if torch_model:
            with suppress(NotImplementedError):  # a program of torch.export cannot change its mode
                found.eval()
        net = found if torch_model else Outside(found, self.model)
        outputs = self.outputs or ("logits" if torch_model or self.answers == "embeddings" else "probabilities")
        answering = Answering(net, f"victim.model={self.model}", outputs == "probabilities")
        plain = not torch_model and not hasattr(found, "predict_proba") and not self.model.endswith(".onnx")
        if self.normalise == RAW or (self.normalise is None and self.size is None and plain):
            return Pixels(answering, 0)
        mean, std = self._statistics()
        return Backbone(answering, 0, self.size or stored, mean, std)

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation by which images are normalised."""
        return find_statistics("none" if self.normalise in (None, RAW) else self.normalise)


@dataclass(frozen=True)
class GivenEncoder(GivenVictim):
    """An encoder used as it is given: its outputs are the embeddings. Attributes: see `GivenVictim`."""

    answers: ClassVar[Answers] = "embeddings"
    ignores: ClassVar[Ignores] = {"outputs": {}}

    def _require_width(self, width: int, task: Task) -> None:
        """Any width will do."""
