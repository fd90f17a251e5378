"""CLIP as a classifier that was never trained on the task: it is given the class names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import DataError
from fmsteal.base.store import digest
from fmsteal.config.answers import Answers
from fmsteal.data.class_names import spell_classes
from fmsteal.data.images import Task
from fmsteal.networks.backbones import Backbone
from fmsteal.networks.clip import ClipSpec, embed_texts, require_templates
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim, VictimMaker


@dataclass(frozen=True)
class ZeroShotVictim(VictimMaker):
    """Returns ``softmax_c(s cos(image, text_c))``, with s CLIP's own scale (Radford et al., ICML 2021, section 3.1.2).

    This is a linear head on image features of unit length, so a `Classifier` in all respects. As for every backbone,
    the whole image is resized bilinearly to the tower's square; CLIP's own transform is bicubic and crops the centre.

    Attributes:
        clip: the CLIP model.
        names: the class texts, in class order or by class, or a file of them; None for the task's class names: see
            `spell_classes`.
        template: a text with ``{}`` in place of the name; with several texts, their mean is used.
        adaptation: how the victim is made.
    """

    answers: ClassVar[Answers] = "probabilities"

    clip: ClipSpec
    names: str | Sequence[str] | Mapping[str, str] | None = None
    template: str | Sequence[str] = "a photo of a {}."
    adaptation: Literal["zero_shot"] = "zero_shot"

    def __post_init__(self) -> None:
        require_templates(self.template, "victim.template")

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the names."""
        templates = require_templates(self.template, "victim.template")
        return {"clip": self.clip.identity(), "adaptation": self.adaptation, "templates": templates}

    def require_makeable(self) -> None:
        """Check that the towers' weights are there, as far as possible."""
        self.clip.require_weights()

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The classifier: raw images in, logits ``(n, C)`` out.

        Raises:
            ConfigError: a class has no name, or two classes have the same name.
            DataError: the towers cannot be loaded, or the image tower's input is not square.
        """
        texts = spell_classes(task.train.classes, self.names, "victim.names")
        clip, tokenize = self.clip.load()
        rows = embed_texts(clip, tokenize, texts, require_templates(self.template, "victim.template"))
        model = Classifier(image_tower(clip, self.clip.model, rows.shape[1]), len(texts))
        with torch.no_grad():
            model.head.weight.copy_(clip.logit_scale.exp() * rows)  # type: ignore[operator]
            model.head.bias.zero_()
        key = digest({**self.identity(), "texts": texts})[:16]
        return Victim(f"{self.clip.slug}-{self.adaptation}-{key}", model.eval())


class UnitFeatures(nn.Module):
    """An image tower whose features ``(n, D)`` have unit length."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images."""
        seen = self.tower(images)
        return F.normalize(seen[0] if isinstance(seen, tuple) else seen, dim=1)


def image_tower(clip: nn.Module, name: str, width: int) -> Backbone:
    """CLIP's image tower as a backbone, with its own size and normalisation.

    Raises:
        DataError: the tower's input is not square.
    """
    tower: Any = clip.visual
    size = tower.image_size
    sides = {int(side) for side in size} if isinstance(size, Sequence) else {int(size)}
    if len(sides) > 1:
        raise DataError(f"The image tower of {name} sees images of {size} pixels: only squares are supported.")
    return Backbone(UnitFeatures(tower), width, sides.pop(), tuple(tower.image_mean), tuple(tower.image_std))
