"""Does a thief come closer when it adjusts its last layer to the test images, without seeing their labels?

T3A (Iwasawa & Matsuo, NeurIPS 2021): a class's weights are replaced by the mean direction of its surest features so
far, those that the head itself assigns to it; the first features are the rows of the head's weights. E3 (Zhu et al.,
ICASSP 2025) mixes a tenth of that into the head, keeps its bias, and waits for five batches.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Measurement, Pair, sample
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.inference import penultimate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class T3A(Measurement):
    """Agreement and accuracy of the thief with its last layer adjusted, batch by batch, as the test images come.

    They come in a random order, the same in every job: a test set that is sorted by class would begin with one class
    alone. A batch is answered after its own features are added.

    Attributes:
        keep: number of the surest features of each class that count; None for all.
        share: share of the adjusted weights in the weights that answer; the head's own make up the rest.
        bias: whether the head's bias is kept.
        batch: images that come at a time (the paper leaves it open).
        wait: number of first batches that the head itself answers.
    """

    answers: ClassVar[Answers] = "probabilities"
    needs_victim: ClassVar[bool] = False
    name: ClassVar[str] = "t3a"

    keep: int | None = 100
    share: float = 1.0
    bias: bool = False
    batch: int = 32
    wait: int = 0

    def __post_init__(self) -> None:
        sound = (self.keep is None or self.keep >= 1) and 0 <= self.share <= 1 and self.batch >= 1 and self.wait >= 0
        if not sound:
            raise ConfigError(
                f"evaluation.also.{self.name} needs keep >= 1 or null, 0 <= share <= 1, batch >= 1 and wait >= 0; "
                f"given: {self.keep}, {self.share}, {self.batch}, {self.wait}."
            )

    def run(self, pair: Pair, ctx: Context) -> list[Metric]:
        """``<name>/agreement``, ``<name>/accuracy`` and ``<name>/changed``: the share of labels that have changed.

        A thief without a head of its own, kept as a program, has no figures.
        """
        if not isinstance(pair.thief, Classifier):
            log.warning(
                "evaluation=%s adjusts the last layer of a thief, and a %s shows none: it is left out",
                self.name,
                type(pair.thief).__name__,
            )
            return []
        test = pair.task.test
        order = sample(test, len(test))
        victim, plain = (rows[order] for rows in pair.logits)
        seen = penultimate(pair.thief, test, order, ctx)
        adjusted = self.adjust(seen, pair.thief.head)
        changed = (adjusted.argmax(1) != plain.argmax(1)).double().mean().item()
        found = [Metric(f"{self.name}/agreement", metrics.agreement(victim, adjusted), f"agreement, {self.spelt}")]
        if test.labels is not None:
            own = metrics.accuracy(adjusted, torch.from_numpy(np.array(test.labels)[order]))
            found.append(Metric(f"{self.name}/accuracy", own, f"thief accuracy, {self.spelt}"))
        return [*found, Metric(f"{self.name}/changed", changed, f"labels changed by {self.spelt}", None)]

    @property
    def spelt(self) -> str:
        """The method in a few words."""
        return "adjusted by T3A"

    @torch.no_grad()
    def adjust(self, features: Tensor, head: nn.Linear) -> Tensor:
        """Logits ``(n, C)`` of features ``(n, D)`` that come in that order, answered by the adjusted head."""
        weight, bias = head.weight.detach().double().cpu(), head.bias.detach().double().cpu()
        rows = weight.clone()  # the surest features so far; below, the head's logits for them
        own = rows @ weight.T + bias
        labels, unsure = own.argmax(1), entropies(own)
        answered = []
        for number, batch in enumerate(features.double().split(self.batch)):
            logits = batch @ weight.T + bias
            rows, labels = torch.cat([rows, batch]), torch.cat([labels, logits.argmax(1)])
            unsure = torch.cat([unsure, entropies(logits)])
            kept = find_surest(labels, unsure, self.keep)
            rows, labels, unsure = rows[kept], labels[kept], unsure[kept]
            if number >= self.wait:
                means = torch.zeros_like(weight).index_add_(0, labels, F.normalize(rows, dim=1))
                mixed = self.share * F.normalize(means, dim=1) + (1 - self.share) * weight
                logits = batch @ mixed.T + (bias if self.bias else 0)
            answered.append(logits)
        return torch.cat(answered).float()


@dataclass(frozen=True)
class MixedT3A(T3A):
    """T3A in the form of E3's code."""

    name: ClassVar[str] = "t3a_e3"

    share: float = 0.1
    bias: bool = True
    batch: int = 128
    wait: int = 5

    @property
    def spelt(self) -> str:
        """The method in a few words."""
        return "adjusted by E3"


def entropies(logits: Tensor) -> Tensor:
    """Entropy of the softmax of each row ``(n, C)``: ``(n,)``, in nats."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def find_surest(labels: Tensor, unsure: Tensor, keep: int | None) -> Tensor:
    """The places of the ``keep`` rows of each label with the least entropy, in their order; ties go to the first."""
    if keep is None:
        return torch.arange(len(labels))
    order = unsure.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]  # label by label, the surest first
    counts = labels.bincount()
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    return order[place < keep].sort().values
