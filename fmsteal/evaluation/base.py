"""What a measurement looks at, and what it finds; an evaluation is a set of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric, index_by_name, make_metrics
from fmsteal.base.store import Store
from fmsteal.data.images import Ids, Images, Task
from fmsteal.evaluation.forwards import classify, embed
from fmsteal.training.context import Context
from fmsteal.training.learners import EncoderLearner, Learner
from fmsteal.victims.base import Victim, VictimMaker

Learners = tuple[Learner, Learner]
Predictions = dict[str, npt.NDArray[np.generic]]


def sample(images: Images, count: int) -> Ids:
    """At most ``count`` random images of a set, the same in every job; a smaller sample is part of a larger one."""
    return np.random.default_rng(0).permutation(len(images))[:count]


@dataclass(frozen=True)
class Defended:
    """What a client got from the defended API for n images.

    Attributes:
        answers: float32 ``(n, width)``; the rows of refused questions are meaningless.
        refused: bool ``(n,)``: questions that got no answer.
        flags: what the defense noted about each question, ``(n,)`` by name.
        usd: total US dollars charged on top of the price of a question.
        seconds: total delay on the simulated clock.
        busy: wall-clock seconds that the defense computed; the victim's own time is not included.
    """

    answers: Tensor
    refused: Tensor
    flags: Mapping[str, Tensor]
    usd: float
    seconds: float
    busy: float

    @property
    def alarms(self) -> Tensor:
        """Bool ``(n,)``: which questions were flagged, under any name, or refused."""
        noted = [flag != 0 for flag in self.flags.values()]
        return torch.stack([self.refused, *noted]).any(dim=0)


class Asker(Protocol):
    """A client that asks the defended API, which has not met it before."""

    def ask(self, images: Images, ids: Ids) -> Defended:
        """Ask about ``images[ids]``, in that order; further calls come from the same client."""
        ...


@dataclass(frozen=True)
class Pair:
    """A thief and the undefended victim it was stolen from, after the attack.

    Attributes:
        victim: the victim.
        thief: the thief: raw images in, logits ``(n, C)`` out, or embeddings ``(n, D)`` if an encoder was stolen.
        learners: how the two were made (before any training, for measurements on their starting points).
        task: the victim's task.
        ctx: the context in which both are run.
        known: their outputs on the test images, if an earlier measurement has kept them.
        meet: gives a new client of the defended API, in front of a defense that remembers nothing yet; None if the API
            has no defense.
        serve: gives the logits on the test images of the model that a defense has put in the victim's place; None if
            the victim itself serves.
    """

    victim: Victim
    thief: nn.Module
    learners: Learners
    task: Task
    ctx: Context
    known: tuple[Tensor, Tensor] | None = None
    meet: Callable[[], Asker] | None = None
    serve: Callable[[], Tensor] | None = None

    @cached_property
    def logits(self) -> tuple[Tensor, Tensor]:
        """Logits of victim and thief on the test images, each ``(n, C)``; of encoders, embeddings of any widths.

        They are computed on first access, and kept.

        Raises:
            AttackError: outputs have the wrong shape or are not finite, or an encoder's embeddings are all the same.
        """
        if self.known is not None:
            return self.known
        answer = embed if isinstance(self.learners[1], EncoderLearner) else classify
        return answer(self.victim, self.thief, self.task.test, np.arange(len(self.task.test)), self.ctx)

    @property
    def comparable(self) -> bool:
        """Whether both outputs have the same width, and the thief's numbers mean what the victim's mean."""
        return self.logits[0].shape == self.logits[1].shape and bool(getattr(self.thief, "aligned", True))


@dataclass(frozen=True)
class Measured:
    """What a measurement found.

    Attributes:
        metrics: the figures.
        predictions: arrays with a row per test image, for ``predictions.npz``.
    """

    metrics: Sequence[Metric]
    predictions: Predictions = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The figures by name."""
        return {metric.name: metric.value for metric in self.metrics}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals of the figures that have one, by name."""
        return {metric.name: metric.interval for metric in self.metrics if metric.interval is not None}


Found = Measured | Iterable[Metric] | Mapping[str, float]


class Measurement(Protocol):
    """A look at a pair: one class, one entry below ``evaluation.also``.

    Attributes:
        needs_victim: False if it looks only at ``pair.logits``, the task and the thief.
    """

    needs_victim: ClassVar[bool] = True

    def inputs(self, store: Store) -> Mapping[str, str]:
        """Digests, by name, of the images it uses besides the task's; loaded before anything is trained."""
        return {}

    def check_victim(self, victim: VictimMaker) -> None:
        """Refuse a victim that cannot be measured in this way; called when the job is composed, before any payment."""

    def check_task(self, task: Task) -> None:
        """Refuse a task that cannot be measured in this way; called before any payment."""

    def run(self, pair: Pair, ctx: Context) -> Found:
        """The figures: metrics, or plain numbers by name, which do not say whether higher is better."""
        ...


class Evaluation(Measurement, Protocol):
    """What is measured of a thief: a choice of ``conf/evaluation``. It is a measurement itself, the main one.

    Attributes:
        name: name of the main measurement, short and stable.
        also: further measurements by name; the main one does not run them.
    """

    name: ClassVar[str]

    @property
    def also(self) -> Mapping[str, Measurement]:
        """Further measurements by name."""
        ...


def list_measurements(evaluation: Evaluation) -> dict[str, Measurement]:
    """All measurements of an evaluation by name: the main one, then the further ones in their order.

    Raises:
        ConfigError: a further one has the main one's name.
    """
    if evaluation.name in evaluation.also:
        raise ConfigError(
            f"evaluation.also.{evaluation.name} has the name of the evaluation's own measurement: choose another."
        )
    return {evaluation.name: evaluation, **evaluation.also}


def gather_inputs(evaluation: Evaluation, store: Store) -> dict[str, str]:
    """Digests of all images that an evaluation's measurements use besides the task's, by name."""
    each = [find_inputs(measurement, store) for measurement in list_measurements(evaluation).values()]
    return {name: digest for found in each for name, digest in found.items()}


def find_inputs(measurement: Measurement, store: Store) -> Mapping[str, str]:
    """Digests, by name, of images that a measurement uses besides the task's; empty if it names none."""
    named = getattr(measurement, "inputs", None)
    return {} if named is None else named(store)


def check_task(measurement: Measurement, task: Task) -> None:
    """Let a measurement refuse a task; a measurement without such a check accepts any."""
    if (check := getattr(measurement, "check_task", None)) is not None:
        check(task)


def measure(measurement: Measurement, pair: Pair, ctx: Context) -> Measured:
    """Run one measurement."""
    found = measurement.run(pair, ctx)
    if isinstance(found, Measured):
        return found
    return Measured(make_metrics(found) if isinstance(found, Mapping) else list(found))


def measure_all(evaluation: Evaluation, pair: Pair, ctx: Context) -> Measured:
    """Run all measurements of an evaluation, and combine what they find."""
    metrics: dict[str, Metric] = {}
    predictions: Predictions = {}
    for measurement in list_measurements(evaluation).values():
        found = measure(measurement, pair, ctx)
        metrics |= index_by_name(found.metrics)
        predictions |= found.predictions
    return Measured(list(metrics.values()), predictions)
