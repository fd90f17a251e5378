"""Do they agree where neither was trained? Agreement on corrupted test images, and on the images of other tasks.

A thief can copy its victim on the victim's own test set and differ from it elsewhere; an attacker who uses the thief in
place of the victim, or to prepare attacks on it, depends on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, Task, content_digest
from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.evaluation.corruptions import NAMES, corrupt_images
from fmsteal.training.context import Context
from fmsteal.training.inference import logits

Logits = tuple[torch.Tensor, torch.Tensor]
WORDS = {"noise": "under noise", "blur": "under blur", "contrast": "at low contrast", "jpeg": "under JPEG"}


@dataclass(frozen=True)
class OutOfDistribution(Measurement):
    """Agreement on images unlike those the victim was made for.

    Attributes:
        corruptions: which of `fmsteal.evaluation.corruptions` are applied to the test images.
        severities: strengths of the corruptions, 1 to 5.
        images: maximum number of images from the test set, and from each other task's.
        sets: config nodes of other tasks, by name, whose test images are used.
    """

    answers: ClassVar[Answers] = "probabilities"

    corruptions: Sequence[str] = NAMES
    severities: Sequence[int] = (1, 2, 3, 4, 5)
    images: int = 1000
    sets: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.corruptions if name not in NAMES]
        if unknown:
            raise ConfigError(
                f"evaluation.also.ood.corruptions: there is no '{unknown[0]}'. There are: {', '.join(NAMES)}."
            )
        if not self.severities or not set(self.severities) <= {1, 2, 3, 4, 5}:
            raise ConfigError(f"evaluation.also.ood.severities are some of 1 to 5, not {list(self.severities)}.")
        if self.images < 1:
            raise ConfigError(f"evaluation.also.ood.images must be at least 1, not {self.images}.")
        if taken := sorted(self.sets.keys() & set(NAMES)):
            raise ConfigError(f"evaluation.also.ood.sets.{taken[0]} has the name of a corruption: choose another.")

    def inputs(self, store: Store) -> Mapping[str, str]:
        """The digests of the other tasks' test images."""
        return {f"ood {name}": images.digest for name, images in self._sets(store).items()}

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``ood/<name>/agreement``; for a corruption, it is the mean over ``ood/<name>-<severity>/agreement``.

        At each severity there are also ``accuracy`` (the thief's) and ``victim_accuracy``.
        """
        found = [metric for name in self.corruptions for metric in self._corrupted(name, pair, ctx)]
        for name, images in self._sets(ctx.store).items():
            agreement = metrics.agreement(*_both(pair, images, sample(images, self.images), ctx))
            found.append(Metric(f"ood/{name}/agreement", agreement, f"agreement on {name}"))
        return Measured(found)

    def _corrupted(self, name: str, pair: Pair, ctx: Context) -> list[Metric]:
        ids = sample(pair.task.test, self.images)
        clean = pair.task.test.pixels[ids]
        labels = torch.from_numpy(np.array(pair.task.test.labels)[ids])
        found: list[Metric] = []
        for done, severity in enumerate(self.severities, start=1):
            pixels = corrupt_images(clean, name, severity)
            victim, thief = _both(pair, Images(pixels, content_digest(pixels)), np.arange(len(pixels)), ctx)
            place, where = f"ood/{name}-{severity}", f"{WORDS[name]}, severity {severity}"
            own, victims = metrics.accuracy(thief, labels), metrics.accuracy(victim, labels)
            found += [
                Metric(f"{place}/agreement", metrics.agreement(victim, thief), f"agreement {where}"),
                Metric(f"{place}/accuracy", own, f"thief accuracy {where}"),
                Metric(f"{place}/victim_accuracy", victims, f"victim accuracy {where}", None),
            ]
            ctx.progress.update(f"ood {name}", done, len(self.severities))
        mean = float(np.mean([metric.value for metric in found if metric.name.endswith("/agreement")]))
        return [Metric(f"ood/{name}/agreement", mean, f"agreement {WORDS[name]}"), *found]

    def _sets(self, store: Store) -> dict[str, Images]:
        made = {name: build.make(OmegaConf.create(node), store=store) for name, node in self.sets.items()}
        for name, task in made.items():
            if not isinstance(task, Task):
                raise ConfigError(
                    f"evaluation.also.ood.sets.{name} must be a task, not {type(task).__name__}: "
                    f"+data@evaluation.also.ood.sets.{name}=..."
                )
        return {name: task.test for name, task in made.items()}


def _both(pair: Pair, images: Images, ids: Ids, ctx: Context) -> Logits:
    """Logits of victim and thief for the same images; the victim's are shared with other jobs."""
    return pair.victim.raw(images, ids, ctx), logits(pair.thief, images, ids, ctx)
