"""Guards that do what no function of a row can, and an API to put them in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import Refused
from fmsteal.data.images import Images
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.oracle.oracle import Budget, Oracle

WIDTH, SIZE = 3, 40
RANDOM = np.random.default_rng(0)
POOL = Images(RANDOM.integers(0, 256, (SIZE, 3, 4, 4), dtype=np.uint8), "pool")
LOGITS = torch.randn(SIZE, WIDTH, generator=torch.Generator().manual_seed(0))


class Stateless:
    """A guard without a state."""

    def __init__(self, width: int = WIDTH) -> None:
        self.width = width

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        raise AssertionError("it logs nothing")


class Charges(Stateless):
    """Half a dollar for the first question of a reply's client, a quarter for any other."""

    def reply(self, ask: Ask) -> Reply:
        return Reply(ask.answers, usd=torch.tensor([0.5 if q.client == 0 else 0.25 for q in ask.questions]))


class Delays(Stateless):
    """Two seconds for each question, and the clock is told in the answer."""

    def reply(self, ask: Ask) -> Reply:
        clock = ask.now + 2.0 * torch.arange(len(ask.questions))
        return Reply(clock[:, None].expand(-1, self.width).clone(), seconds=torch.full((len(ask.questions),), 2.0))


class Flags(Stateless):
    """Flags an image asked about again."""

    def reply(self, ask: Ask) -> Reply:
        return Reply(ask.answers, flags={"again": torch.tensor([q.nth > 0 for q in ask.questions])})


class Refuses(Stateless):
    """Answers no question about an image for the second time."""

    def reply(self, ask: Ask) -> Reply:
        refused = torch.tensor([q.nth > 0 for q in ask.questions])
        answers = torch.where(refused[:, None], torch.nan, ask.answers)
        return Reply(answers, refused=refused, usd=torch.ones(len(refused)))


class Widens(Stateless):
    """Adds the victim's raw outputs to its answers."""

    def __init__(self) -> None:
        super().__init__(2 * WIDTH)

    def reply(self, ask: Ask) -> Reply:
        return Reply(torch.cat([ask.answers, ask.raw], dim=1))


class Counts:
    """Remembers everything: each answer depends on all that was asked before, by this client or by anybody.

    Every fifth question is refused, every third is delayed, all are charged and flagged.
    """

    def __init__(self, depends: Depends = "client", width: int = WIDTH) -> None:
        self.width, self.depends = width, depends
        self.seen: Counter[int] = Counter()
        self.past: dict[int, bytes] = {}

    def prepare(self, victim: Any, train: Any, ctx: Any) -> Counts:
        return Counts(self.depends, victim.width)

    def _whose(self, question: Question) -> int:
        return question.client if self.depends == "client" else 0

    def reply(self, ask: Ask) -> Reply:
        seen, past = self.seen.copy(), dict(self.past)
        log, columns = [], []
        for question, answer in zip(ask.questions, ask.answers, strict=True):
            whose = self._whose(question)
            seen[whose] += 1
            content = past.get(whose, b"") + question.image + answer.numpy().tobytes()
            past[whose] = hashlib.blake2b(content, digest_size=8).digest()
            log.append(past[whose])
            columns.append((seen[whose], int.from_bytes(past[whose][:2])))
        counts, noise = torch.tensor(columns).reshape(-1, 2).T
        return Reply(
            ask.answers + noise[:, None] / 2**16,
            log,
            usd=0.1 * counts,
            seconds=(counts % 3 == 0) * 0.7,
            flags={"odd": counts % 2 == 1, "noise": noise},
            refused=counts % 5 == 0,
        )

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        for question, entry in zip(questions, log, strict=True):
            self.seen[self._whose(question)] += 1
            self.past[self._whose(question)] = entry

    @property
    def state(self) -> tuple[Counter[int], dict[int, bytes]]:
        return self.seen, self.past


def api(folder: Path, guard: Guard, budget: int = 200, **more: Any) -> Oracle:
    """A victim of softmax over a table of logits, behind the guard."""
    return Oracle(
        answer_pool=lambda ids: LOGITS[torch.from_numpy(ids)],
        answer_images=lambda images: images.flatten(1)[:, :WIDTH],
        to_answers=lambda raw: raw.softmax(1),
        pool=POOL,
        guard=guard,
        budget=Budget(budget),
        ledger=Ledger(folder / "ledger.bin", "job", guard.width),
        seed=0,
        **more,
    )


def patient(ask: Callable[[], Tensor]) -> tuple[Tensor, np.ndarray]:
    """The answers to what was not refused, and which questions were answered."""
    try:
        answers = ask()
        return answers, np.ones(len(answers), bool)
    except Refused as refusal:
        return refusal.answers, refusal.answered


def files(folder: Path) -> dict[str, bytes]:
    """What lies in the folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
