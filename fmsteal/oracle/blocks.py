"""Groups of questions that are answered together: those that reach the disk at once, or a defense's batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from fmsteal.oracle.ledger import Question

ANSWERED_AT_ONCE = 512  # answers written to the ledger together: the most a kill can make the victim compute again


@dataclass(frozen=True, eq=False)
class Shown:
    """The images of one ask.

    Attributes:
        kind: images of the same kind can be stacked.
        raw: returns the victim's raw outputs ``(n, W)`` for some of the images, by row.
        look: returns the pixels ``(n, 3, H, W)`` of some of the images, by row.
    """

    kind: Hashable
    raw: Callable[[Sequence[int]], Tensor]
    look: Callable[[Sequence[int]], Tensor]


@dataclass(frozen=True)
class Block:
    """Questions that a guard answers together.

    Attributes:
        questions: all questions, in order.
        new: positions of the questions that have no answer yet; only these are recorded.
        raw: asks the victim and returns its raw outputs, ``(n, W)``.
        images: reads the images, ``(n, 3, H, W)``.
    """

    questions: Sequence[Question]
    new: Sequence[int]
    raw: Callable[[], Tensor]
    images: Callable[[], Tensor]


@dataclass(eq=False)
class _Place:
    """A question in the order it was asked, with the victim's output once it is known."""

    question: Question
    shown: Shown
    row: int
    output: Tensor | None = None


class Blocks:
    """Cuts what a run asks into blocks.

    Without a ``batch``, a block holds up to `ANSWERED_AT_ONCE` questions that have no answer yet. With one, the n-th
    question of a run belongs to batch ``n // batch``, answered or not, so a resumed run forms the same batches. A batch
    also ends where images of another kind or size begin. The last, incomplete batch of an ask is answered as it is; the
    next ask fills it up, and its earlier questions are shown to the guard again.
    """

    def __init__(self, batch: int | None) -> None:
        self._batch = batch
        self._open: list[_Place] = []

    def cut(self, questions: Sequence[Question], new: Sequence[int], shown: Shown) -> list[Block]:
        """The blocks that answer the questions ``new`` of an ask, in order; `close` it when all are answered."""
        if self._batch is None:
            parts = [new[start : start + ANSWERED_AT_ONCE] for start in range(0, len(new), ANSWERED_AT_ONCE)]
            return [
                Block(
                    [questions[r] for r in rows], range(len(rows)), partial(shown.raw, rows), partial(shown.look, rows)
                )
                for rows in parts
            ]
        self._batches = self._filled(questions, shown)
        missing = {questions[row] for row in new}
        blocks = []
        for places in self._batches:
            fresh = [at for at, place in enumerate(places) if place.question in missing]
            if fresh:
                asked = [place.question for place in places]
                blocks.append(Block(asked, fresh, partial(_raw, places), partial(_look, places)))
        return blocks

    def close(self) -> None:
        """End the ask; its last, incomplete batch stays open."""
        if self._batch is not None:
            last = self._batches[-1] if self._batches else []
            self._open = last if len(last) < self._batch else []

    def _filled(self, questions: Sequence[Question], shown: Shown) -> list[list[_Place]]:
        assert self._batch is not None
        batches = [list(self._open)] if self._open else []
        for row, question in enumerate(questions):
            if not batches or len(batches[-1]) == self._batch or batches[-1][0].shown.kind != shown.kind:
                batches.append([])
            batches[-1].append(_Place(question, shown, row))
        return batches


def _raw(places: Sequence[_Place]) -> Tensor:
    """The victim's outputs for a batch; it is asked only for those that are still missing."""
    unknown = [place for place in places if place.output is None]
    for shown, group in groupby(unknown, key=lambda place: place.shown):
        these = list(group)
        for place, output in zip(these, shown.raw([place.row for place in these]), strict=True):
            place.output = output
    return torch.stack([place.output for place in places if place.output is not None])


def _look(places: Sequence[_Place]) -> Tensor:
    parts = groupby(places, key=lambda place: place.shown)
    return torch.cat([shown.look([place.row for place in group]) for shown, group in parts])
