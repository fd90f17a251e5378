"""PRADA: an alarm if distances between a client's questions are not normally distributed (Juuti et al., EuroS&P 2019).

Each client has a growing set of images for each label that was answered. A question's distance is the smallest distance
to an image in its label's set; the image joins the set if that is above the set's threshold, the running maximum of the
mean minus the standard deviation of the set's distances, the first of which is 0. Every ten questions, the distances of
labels with ten or more, without those beyond three deviations, are tested for normality if there are more than a
hundred: the alarm is on while the Shapiro-Wilk W is below delta.

In the published code one agent watches all clients; here each client has its own. Images are compared at 32 x 32 pixels
in 256 steps, as in the paper's data; the test uses the last 5,000 distances, the most for which W is defined.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.stats import shapiro
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.defenses.growing import Growing
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

SIDE = 32
PIXELS = 3 * SIDE * SIDE
EVERY = 10  # questions between two tests
FEWEST = 10  # a label with fewer distances is left out
ENOUGH = 100  # the test needs more distances than this
MOST = 5000
_HEAD = struct.Struct("<iBd")  # label, bits, distance
_FIRST, _JOINS, _ALARM = 1, 2, 4  # bits: a label's first image (no distance); an image that joins its set

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class Prada:
    """Changes no answer; flags each question that is asked while its client's alarm is on (``flags/prada``)."""

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "client"

    def __init__(self, delta: float = 0.9) -> None:
        """``delta`` is the W below which distances count as not normal."""
        if not 0 < delta <= 1:
            raise ConfigError(f"defense.delta must be above 0 and at most 1, not {delta}.")
        self.delta = delta

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Nothing needs preparing: no client has asked anything yet."""
        return PradaGuard(victim.width, self.delta, name_of(self))


class PradaGuard:
    """Watches each client; the log holds each question's change to the state, including an image that joins its set."""

    def __init__(self, width: int, delta: float, name: str) -> None:
        self.width = width
        self._delta, self._name = delta, name
        self._clients: dict[int, Client] = {}

    def reply(self, ask: Ask) -> Reply:
        """The unchanged answers, with a flag where the client's alarm is on after the question."""
        if not ask.questions:
            return Reply(ask.answers)
        images, labels = shrink(ask.images()), ask.answers.argmax(1).tolist()
        places = [(question.client, label) for question, label in zip(ask.questions, labels, strict=True)]
        drafts = {client: self._client(client).fork() for client, _ in places}
        rows_of: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, place in enumerate(places):
            rows_of[place].append(row)
        near = {place: Nearest(drafts[place[0]].images_of(place[1]), images[rows]) for place, rows in rows_of.items()}
        log, alarms = [], []
        for image, place in zip(images, places, strict=True):
            client, label = drafts[place[0]], place[1]
            entry = client.entry(label, image, near[place], self._delta)
            log.append(entry)
            alarms.append(client.alarm)
        return Reply(ask.answers, log, flags={"prada": torch.tensor(alarms)})

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Update the state with what the questions did.

        Raises:
            DefenseError: an entry was not written by this defense.
        """
        for question, entry in zip(questions, log, strict=True):
            bits = entry[4] if len(entry) >= _HEAD.size else 0
            if len(entry) != _HEAD.size + (PIXELS if bits & (_FIRST | _JOINS) else 0):
                raise foreign_entry(self._name, entry)
            self._client(question.client).take(entry)

    def _client(self, client: int) -> Client:
        return self._clients.setdefault(client, Client())


@dataclass
class Label:
    """A client's images of one label.

    Attributes:
        images: the growing set, ``(m, PIXELS)``.
        kept: the distances of its images, ``(m, 1)``.
        threshold: distance above which an image joins.
        asked: number of questions that have a distance.
    """

    images: Growing = field(default_factory=lambda: Growing(PIXELS, np.uint8))
    kept: Growing = field(default_factory=lambda: Growing(1, np.float64))
    threshold: float = 0.0
    asked: int = 0


class Client:
    """The state of a client, which `take` builds from its log entries."""

    def __init__(self) -> None:
        self.alarm = False
        self._questions = 0
        self._labels: dict[int, Label] = {}
        self._distances = Growing(2, np.float64)  # in order: label, distance

    def fork(self) -> Client:
        """A copy that can be continued without changing this one."""
        fork = Client()
        fork.alarm, fork._questions, fork._distances = self.alarm, self._questions, self._distances.fork()
        fork._labels = {
            name: replace(label, images=label.images.fork(), kept=label.kept.fork())
            for name, label in self._labels.items()
        }
        return fork

    def images_of(self, label: int) -> Image:
        """The label's growing set, ``(m, PIXELS)``."""
        return self._labels[label].images.rows if label in self._labels else np.zeros((0, PIXELS), np.uint8)

    def entry(self, label: int, image: Image, near: Nearest, delta: float) -> bytes:
        """Apply the next question to the state; returns its log entry."""
        known, distance = self._labels.get(label), near.next()
        bits = _FIRST if known is None else _JOINS if distance > known.threshold else 0
        if bits:
            near.join()
        entry = _HEAD.pack(label, bits, 0.0 if known is None else distance) + (image.tobytes() if bits else b"")
        tested = self._questions % EVERY == 0
        alarm = self.alarm
        self.take(entry)
        self.alarm = self._is_alarming(alarm, delta) if tested else alarm
        return _HEAD.pack(label, bits | _ALARM * self.alarm, *_HEAD.unpack_from(entry)[2:]) + entry[_HEAD.size :]

    def take(self, entry: bytes) -> None:
        """Update the state with a question's log entry."""
        label, bits, distance = _HEAD.unpack_from(entry)
        known = self._labels.setdefault(label, Label())
        if not bits & _FIRST:
            self._distances.append((label, distance))
            known.asked += 1
        if bits & (_FIRST | _JOINS):
            known.images.append(np.frombuffer(entry, np.uint8, offset=_HEAD.size))
            known.kept.append([distance])
            kept = known.kept.rows[:, 0]
            known.threshold = max(known.threshold, float(kept.mean() - kept.std()))
        self._questions += 1
        self.alarm = bool(bits & _ALARM)

    def _is_alarming(self, before: bool, delta: float) -> bool:
        many = [name for name, label in self._labels.items() if label.asked >= FEWEST]
        labels, distances = self._distances.rows.T
        return is_alarming(distances[np.isin(labels, many)], delta, before)


class Nearest:
    """Distances of a client's images of one label in an ask to its set, including earlier images that joined it."""

    def __init__(self, known: Image, images: Image) -> None:
        rows = images.astype(np.float64)
        self._known = squared_distances(rows, known.astype(np.float64)).min(1, initial=np.inf)
        self._each = squared_distances(rows, rows)
        self._joined: list[int] = []
        self._at = -1

    def next(self) -> float:
        """The distance of the next image, in units of a pixel's range; infinite if there is nothing to compare with."""
        self._at += 1
        return float(np.sqrt(min(self._known[self._at], self._each[self._at, self._joined].min(initial=np.inf))) / 255)

    def join(self) -> None:
        """Add the current image to the set."""
        self._joined.append(self._at)


def shrink(images: Tensor) -> Image:
    """Images in the form in which they are compared, uint8 ``(n, PIXELS)``."""
    pixels = images.float() if images.is_floating_point() else images.float() / 255
    if pixels.shape[2:] != (SIDE, SIDE):
        resized = [
            F.interpolate(image[None], (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
            for image in pixels
        ]
        pixels = torch.cat(resized)
    return (pixels * 255).round().clip(0, 255).to(torch.uint8).flatten(1).numpy()


def squared_distances(some: Floats, others: Floats) -> Floats:
    """Squared distances between rows of whole numbers, ``(n, m)``: exact, hence the same however rows are blocked."""
    squares = np.square(some).sum(1)[:, None] + np.square(others).sum(1)
    return np.asarray(squares - 2 * some @ others.T)


def is_alarming(distances: Floats, delta: float, before: bool) -> bool:
    """Whether the distances ``(n,)`` are not normal; if there are too few, the alarm stays as it was ``before``."""
    if not len(distances):
        return before
    inner = distances[np.abs(distances - distances.mean()) < 3 * distances.std()][-MOST:]
    return bool(shapiro(inner).statistic < delta) if len(inner) > ENOUGH else before
