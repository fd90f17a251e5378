"""ModelGuard-S: answers that many questions share (Tang et al., USENIX Security 2024).

Each class has a growing list of answers, its centroids. A question whose p lies within epsilon of a centroid of its
class gets the first such centroid; otherwise its p becomes a new centroid and is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.defenses.growing import Growing
from fmsteal.defenses.probabilities import to_distributions
from fmsteal.oracle.guard import Ask, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

Row = npt.NDArray[np.float32]
_Place = tuple[int, int]  # whose centroids: the client's number (-1: all), and the class


class ModelGuardS:
    """Returns the first centroid of p's top class within ``epsilon`` (L1) of p; the label is kept.

    All clients share the centroids, as in the published code; ``per: client`` gives each client its own.
    """

    answers: ClassVar[Answers] = "probabilities"

    def __init__(self, epsilon: float = 1.0, per: Literal["all", "client"] = "all") -> None:
        """``epsilon`` is the largest L1 distance of an answer from p."""
        if not epsilon >= 0:
            raise ConfigError(f"defense.epsilon must be 0 or more, not {epsilon}.")
        self.epsilon = epsilon
        self.per = per

    @property
    def depends(self) -> Literal["all", "client"]:
        """What all clients, or this client, asked before."""
        return self.per

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Nothing needs preparing: there are no centroids yet."""
        return CentroidGuard(victim.width, self.epsilon, self.per == "client", name_of(self))


class CentroidGuard:
    """The centroids; the log holds each new one, and is empty for a question that got an existing one."""

    def __init__(self, width: int, epsilon: float, per_client: bool, name: str) -> None:
        self.width = width
        self._epsilon, self._per_client, self._name = epsilon, per_client, name
        self._centroids: dict[_Place, Growing] = defaultdict(lambda: Growing(width))

    def reply(self, ask: Ask) -> Reply:
        """A centroid for each row; earlier rows of the same ask may have created it."""
        p = to_distributions(ask.answers, self._name).float().numpy()
        fresh: dict[_Place, list[Row]] = defaultdict(list)
        answers, log = [], []
        for question, row, label in zip(ask.questions, p, p.argmax(1).tolist(), strict=True):
            place = self._place(question, label)
            found = find_first_within(self._rows(place), row, self._epsilon)
            if found is None and fresh[place]:
                found = find_first_within(np.stack(fresh[place]), row, self._epsilon)
            if found is None:
                fresh[place].append(row)
            answers.append(row if found is None else found)
            log.append(row.astype("<f4").tobytes() if found is None else b"")
        rows = np.stack(answers) if answers else np.zeros((0, self.width), np.float32)
        return Reply(torch.from_numpy(rows.copy()), log)

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Keep the new centroids.

        Raises:
            DefenseError: an entry was not written by this defense for this victim.
        """
        for question, entry in zip(questions, log, strict=True):
            if len(entry) not in (0, 4 * self.width):
                raise foreign_entry(self._name, entry, f"an answer of {self.width} numbers")
            if entry:
                row = np.frombuffer(entry, "<f4")
                self._centroids[self._place(question, int(row.argmax()))].append(row)

    def _place(self, question: Question, label: int) -> _Place:
        return (question.client if self._per_client else -1, label)

    def _rows(self, place: _Place) -> Row:
        return self._centroids[place].rows if place in self._centroids else np.zeros((0, self.width), np.float32)


def find_first_within(centroids: Row, row: Row, epsilon: float) -> Row | None:
    """The first of the centroids ``(m, K)`` whose L1 distance from the row is at most epsilon; None if none is."""
    if not len(centroids):
        return None
    near = np.flatnonzero(np.abs(centroids - row).sum(1) <= epsilon)
    return centroids[near[0]] if len(near) else None
