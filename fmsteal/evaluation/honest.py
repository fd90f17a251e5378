"""What a defense costs an honest client, who asks about test images and steals nothing.

A client that the API has not met asks about test images, in random order, through the job's defense. It shares nothing
with the attacker: no budget, no ledger, and no state left by the attack's questions. A defense is better the less this
client loses, but that says nothing about the theft, so none of these figures has a direction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.store import Store
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.evaluation import downstream
from fmsteal.evaluation.base import Asker, Defended, Measured, Measurement, Pair, sample
from fmsteal.evaluation.heads import Head
from fmsteal.evaluation.metrics import wilson
from fmsteal.training.context import Context

log = logging.getLogger(__name__)

SMALLEST = torch.finfo(torch.float32).smallest_normal  # smaller probabilities are raised to it
SEED = 0  # of a head: the same as for the undefended target
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class HonestClassifier(Measurement):
    """Compares a classifier's defended answers with its undefended ones, on test images.

    Attributes:
        questions: maximum number of test images that the client asks about.
        bins: number of bins of the calibration error.
    """

    version: ClassVar[int] = 1
    answers: ClassVar[Answers] = "probabilities"

    questions: int = 10_000
    bins: int = 15

    def __post_init__(self) -> None:
        if min(self.questions, self.bins) < 1:
            raise ConfigError(
                f"An honest client needs questions and bins of at least 1; given: {self.questions}, {self.bins}."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """Ask once; no figures if there is no defense. Figures of answers leave out refused questions."""
        if pair.meet is None:
            return Measured([])
        test = pair.task.test
        ids = sample(test, self.questions)
        got, labels = pair.meet().ask(test, ids), torch.from_numpy(np.array(test.labels)[ids])
        found, kept = count(got), ~got.refused
        undefended = pair.victim.answer(pair.logits[0][torch.from_numpy(ids)][kept])
        answers = got.answers[kept]
        if len(answers) and answers.shape == undefended.shape:
            found += self.compare(undefended.double(), answers.double(), labels[kept])
        elif len(answers):
            log.info("%d numbers leave, the victim has %d: not compared", answers.shape[1], undefended.shape[1])
        kept_rows = {"ids": torch.from_numpy(ids), "answers": got.answers, "refused": got.refused}
        return Measured(found, {f"honest_{name}": rows.numpy() for name, rows in kept_rows.items()})

    def compare(self, p: Tensor, y: Tensor, labels: Tensor) -> list[Metric]:
        """Figures that compare defended rows y with undefended rows p, float64 ``(n, C)``, given the labels ``(n,)``.

        Accuracies and calibration errors use a row's largest entry unchanged; ties go to the first.
        """
        n, own = len(labels), y.argmax(1)
        shares = {
            "accuracy": (own == labels, "an honest client's accuracy"),
            "victim_accuracy": (p.argmax(1) == labels, "the same without the defense"),
            "label_kept": (own == p.argmax(1), "honest answers whose label is the victim's"),
        }
        numbers = {
            "l1": ((y - p).abs().sum(1).mean(), "L1(defended, undefended)", (0, None)),
            "l2": ((y - p).norm(dim=1).mean(), "L2(defended, undefended)", (0, None)),
            "kl": (divergence(y, p).mean(), "KL(defended || undefended), nats", (0, None)),
            "ece": (calibration_error(y, labels, self.bins), f"calibration error, {self.bins} bins", (0, 1)),
            "victim_ece": (calibration_error(p, labels, self.bins), "the same without the defense", (0, 1)),
        }
        return [
            *(_share(name, float(which.double().mean()), n, label) for name, (which, label) in shares.items()),
            *(_number(name, float(value), label, bounds) for name, (value, label, bounds) in numbers.items()),
        ]


@dataclass(frozen=True)
class HonestEncoder(Measurement):
    """Compares an encoder's defended embeddings with its undefended ones, directly and on downstream tasks.

    Attributes:
        downstream: config nodes of tasks, by name: for each, a client asks about its training images, then its test
            images, and trains a head on the answers.
        head: the classifier that is trained; None if there is no task.
        questions: maximum number of test images of the victim's own task that a client asks about.
    """

    version: ClassVar[int] = 1
    answers: ClassVar[Answers] = "embeddings"

    downstream: Mapping[str, Any] = field(default_factory=dict)
    head: Head | None = None
    questions: int = 10_000

    def __post_init__(self) -> None:
        if self.questions < 1:
            raise ConfigError(f"An honest client needs questions of at least 1, not {self.questions}.")
        if self.downstream and self.head is None:
            raise ConfigError(f"An honest client of {', '.join(self.downstream)} needs a head to train.")

    def inputs(self, store: Store) -> dict[str, str]:
        """Digests of the downstream tasks' images."""
        return downstream.digests(self.downstream, store)

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """Ask about the task's test images and each downstream task; no figures if there is no defense."""
        if pair.meet is None:
            return Measured([])
        ids = sample(pair.task.test, self.questions)
        got = pair.meet().ask(pair.task.test, ids)
        found, kept = count(got), ~got.refused
        v, y = pair.logits[0][torch.from_numpy(ids)][kept], got.answers[kept]
        if len(y) and y.shape == v.shape:
            apart = (F.normalize(v.double()) - F.normalize(y.double())).norm(dim=1).mean()
            cosine = F.cosine_similarity(v.double(), y.double()).mean()
            found.append(_number("cosine", float(cosine), "cosine(defended, undefended)", (-1, 1)))
            found.append(_number("l2", float(apart), "L2(defended, undefended), normalised", (0, 2)))
        elif len(y):
            log.info("%d numbers leave, the target has %d: not compared", y.shape[1], v.shape[1])
        shares = []
        for name, task in downstream.tasks(self.downstream, ctx.store).items():
            share, asked = self._judge(task, pair.meet(), ctx)
            if share is None:
                log.info("No honest/downstream/%s/accuracy: the defense answers too little to train a head", name)
                continue
            shares.append(share)
            found.append(_share(f"downstream/{name}/accuracy", share, asked, f"an honest client's accuracy on {name}"))
        if shares:
            label = "an honest client's downstream accuracy"
            found.append(_number("downstream_accuracy", float(np.mean(shares)), label, (0, 1)))
        return Measured(found)

    def _judge(self, task: Task, client: Asker, ctx: Context) -> tuple[float | None, int]:
        """The accuracy of a head trained and tested on defended embeddings, and the number of test images."""
        assert self.head is not None
        (train, labels), (test, truth) = (_known(client, images) for images in (task.train, task.test))
        if len(labels.unique()) < 2 or not len(truth):
            return None, 0

        def tell(done: int, of: int) -> None:
            ctx.progress.update("honest client's head", done, of)

        device = ctx.training.device
        said = self.head.fit_predict(train.to(device), labels, test.to(device), task.num_classes, SEED, tell)
        return float((said == truth).double().mean()), len(truth)


def count(got: Defended) -> list[Metric]:
    """What a client paid, how long it waited, and how often it was suspected.

    ``honest/false_alarms`` is the share of its questions that were flagged or refused. ``honest/usd`` and
    ``honest/seconds`` are sums over all questions, on top of the price of a question; ``honest/ms_per_query`` is the
    defense's own computing time on this machine.
    """
    n = len(got.refused)
    flags = {f"flags/{name}": flag != 0 for name, flag in sorted(got.flags.items())}
    return [
        Metric("honest/questions", n, "an honest client's questions", None, bounds=(0, None)),
        _share("false_alarms", float(got.alarms.double().mean()), n, "false alarms on an honest client"),
        _share("refused", float(got.refused.double().mean()), n, "an honest client's questions refused"),
        *(_share(name, float(which.double().mean()), n, f"honest questions: {name}") for name, which in flags.items()),
        _number("usd", got.usd, "extra cost of an honest client (USD)", (0, None)),
        _number("seconds", got.seconds, "extra delay of an honest client (s)", (0, None)),
        _number("ms_per_query", 1000 * got.busy / n, "the defense's time per query (ms)", (0, None)),
    ]


def divergence(y: Tensor, p: Tensor) -> Tensor:
    """KL(y || p) of rows ``(n, C)`` in nats, ``(n,)``.

    Only this direction is finite, because defenses return zeros where p has none. Each row y is divided by its sum; a
    row of zeros counts as uniform; p is at least `SMALLEST`.
    """
    sums = y.sum(1, keepdim=True)
    rows = torch.where(sums > 0, y / sums.clip(min=SMALLEST), 1 / y.shape[1])
    return (torch.special.xlogy(rows, rows) - rows * p.clip(min=SMALLEST).log()).sum(1)


def calibration_error(rows: Tensor, labels: Tensor, bins: int) -> Tensor:
    """The expected calibration error of rows ``(n, C)`` (Guo et al., ICML 2017): equal bins of confidence.

    A row's confidence is its largest entry, at most 1. For each bin ``(b / bins, (b + 1) / bins]`` (0 is in the first),
    the difference between mean confidence and accuracy is weighted by the bin's share of the rows.
    """
    sure, said = rows.max(1)
    sure = sure.clip(0, 1)
    place = ((sure * bins).ceil().long() - 1).clip(min=0)
    gaps = torch.zeros(bins, dtype=rows.dtype).index_add_(0, place, sure - (said == labels).to(rows.dtype))
    return gaps.abs().sum() / len(rows)


def _known(client: Asker, images: Any) -> tuple[Tensor, Tensor]:
    """A client's embeddings of a labelled set, and their labels; asked in random order, returned in the set's."""
    ids = sample(images, len(images))
    got, back = client.ask(images, ids), torch.from_numpy(np.argsort(ids))
    kept = ~got.refused[back]
    return got.answers[back][kept], torch.from_numpy(np.array(images.labels))[kept]


def _share(name: str, value: float, n: int, label: str) -> Metric:
    return Metric(f"honest/{name}", value, label, None, wilson(value, n), (0, 1))


def _number(name: str, value: float, label: str, bounds: Bounds) -> Metric:
    return Metric(f"honest/{name}", value, label, None, bounds=bounds)
