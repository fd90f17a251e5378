"""Answers requests: reserve, ask the victim, let the defense reply, record, and only then hand out."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmsteal.base.errors import DefenseError, FmstealError, VictimError
from fmsteal.oracle.blocks import Blocks, Shown
from fmsteal.oracle.guard import Ask, Depends, Guard
from fmsteal.oracle.replies import hear
from fmsteal.serve.books import AnswerRow, Books, Reserved, Wanted
from fmsteal.serve.faults import Fault

log = logging.getLogger(__name__)

_NO_RECORD = "The service cannot write its records. Nothing was answered or charged; try again later."


@dataclass(frozen=True)
class Counsel:
    """A victim and its defense, as a service uses them.

    Attributes:
        name: the defense's name.
        depends: what an answer may depend on.
        guard: the defense prepared for the victim.
        raw: gives the victim's raw outputs, float32 ``(n, W)``, for uint8 images ``(n, 3, H, W)``.
        to_answers: turns raw outputs into answers before the defense.
        seed: seed of random defenses.
    """

    name: str
    depends: Depends
    guard: Guard
    raw: Callable[[Tensor], Tensor]
    to_answers: Callable[[Tensor], Tensor]
    seed: int


@dataclass(frozen=True)
class Order:
    """A request that waits for its answer: what it asks for, and its images, uint8 ``(n, 3, H, W)``."""

    wanted: Wanted
    pixels: Tensor

    @property
    def kind(self) -> Hashable:
        """Images of one size can be computed together."""
        return self.pixels.shape[1:]

    @property
    def weight(self) -> int:
        """The number of images."""
        return len(self.pixels)


@dataclass(frozen=True)
class Answered:
    """The answers to a request, in order; ``replayed`` if they were given before."""

    entries: Sequence[AnswerRow]
    replayed: bool = False


class ServiceDesk:
    """Answers orders, one batch after the other; it is used by one thread.

    The order of things is the oracle's: what the defense must remember is on the disk before its state is updated, and
    a service that starts again brings a new guard to the same state from the records.
    """

    def __init__(self, counsel: Counsel, books: Books) -> None:
        """Bring the guard to the state that the records say.

        Raises:
            DefenseError: the guard cannot read what was recorded.
        """
        self._counsel, self._books = counsel, books
        self._blocks = Blocks(getattr(counsel.guard, "batch", None))
        self._latest = books.find_last_moment()
        self._broken = False
        self._unreleased: list[Reserved] = []
        for questions, logged in books.read_log():
            counsel.guard.fold(questions, logged)

    def answer(self, orders: Sequence[Order]) -> list[Answered | Fault]:
        """Answer orders of one kind, reserved and recorded together."""
        if self._broken:
            return [Fault("failed", "The defense has lost its state: the service must be started again.")] * len(orders)
        try:
            self._books.release(self._unreleased)
            self._unreleased = []
            admitted = self._books.reserve([order.wanted for order in orders], self._now())
        except sqlite3.Error as error:
            log.error("Requests could not be reserved: %s", error)
            return [Fault("storage", _NO_RECORD, 5.0)] * len(orders)
        due = [(order, found) for order, found in zip(orders, admitted, strict=True) if isinstance(found, Reserved)]
        served = iter(self._serve(due) if due else ())
        return [
            next(served)
            if isinstance(found, Reserved)
            else found
            if isinstance(found, Fault)
            else Answered(found, True)
            for found in admitted
        ]

    def _serve(self, due: Sequence[tuple[Order, Reserved]]) -> list[Answered | Fault]:
        try:
            answered = self._compute(due)
        except Exception as error:  # models and defenses may raise anything
            if len(due) > 1:  # one of them is to blame: the others get their answers
                return [found for each in due for found in self._serve([each])]
            log.error("A request failed: %s: %s", type(error).__name__, error)
            return [self._give_up(due[0][1], Fault("failed", f"The API failed on these images: {_spell(error)}"))]
        try:
            self._books.settle(answered)
        except sqlite3.Error as error:
            log.error("Answers could not be recorded: %s", error)
            return [self._give_up(reserved, Fault("storage", _NO_RECORD, 5.0)) for _, reserved in due]
        self._blocks.close()
        self._fold(answered)
        return [Answered(entries) for _, entries in answered]

    def _compute(self, due: Sequence[tuple[Order, Reserved]]) -> list[tuple[Reserved, Sequence[AnswerRow]]]:
        """The entries of each order; nothing has changed after an error."""
        pixels = torch.cat([order.pixels for order, _ in due])
        questions = [question for _, reserved in due for question in reserved.questions]
        prices = [reserved.price for _, reserved in due for _ in reserved.questions]
        shown = Shown(
            due[0][0].kind, lambda rows: self._counsel.raw(pixels[list(rows)]), lambda rows: pixels[list(rows)]
        )
        entries: list[AnswerRow] = []
        now = self._now()
        for block in self._blocks.cut(questions, range(len(questions)), shown):
            raw = block.raw()
            answers = self._counsel.to_answers(raw)
            if not answers.isfinite().all():
                raise VictimError("the model's answer is NaN or infinite.")
            ask = Ask(block.questions, answers, raw, block.images, now, self._counsel.seed)
            said = hear(self._counsel.guard, ask, self._counsel.name)
            rows = said.answers.numpy()
            for row in block.new:
                price = prices[len(entries)]
                answer = None if said.refused[row] else rows[row]
                noted = None if said.rows is None else said.rows[row]
                usd = 0.0 if answer is None else price + (noted.usd if noted else 0.0)
                more = (noted.seconds, noted.flags, noted.log) if noted else (0.0, {}, None)
                entries.append(AnswerRow(answer, now, usd, *more))
        found, start = list[tuple[Reserved, Sequence[AnswerRow]]](), 0
        for _, reserved in due:
            found.append((reserved, entries[start : start + len(reserved.questions)]))
            start += len(reserved.questions)
        return found

    def _fold(self, answered: Sequence[tuple[Reserved, Sequence[AnswerRow]]]) -> None:
        logged = [
            (question, entry.log)
            for reserved, entries in answered
            for question, entry in zip(reserved.questions, entries, strict=True)
            if entry.log is not None
        ]
        if not logged:
            return
        try:
            self._counsel.guard.fold([question for question, _ in logged], [entry for _, entry in logged])
        except Exception as error:  # its answers are recorded and leave; no more are given
            self._broken = True
            log.error("%s failed to remember what it logged: %s", self._counsel.name, error)

    def _give_up(self, reserved: Reserved, fault: Fault) -> Fault:
        try:
            self._books.release([reserved])
        except sqlite3.Error as error:  # the disk is full: before anything else is reserved, or at the next start
            log.error("A reservation could not be released: %s", error)
            self._unreleased.append(reserved)
        return fault

    def _now(self) -> float:
        """The clock on the wall, which never runs backwards here."""
        self._latest = max(self._latest, time.time())
        return self._latest


def _spell(error: Exception) -> str:
    """What a client may know of an error: our own sentences, of others the kind alone."""
    if isinstance(error, VictimError | DefenseError):
        return str(error)
    return f"{error if isinstance(error, FmstealError) else type(error).__name__}."
