"""What stands between a victim's answers and the attacker: the oracle lets a guard reply to questions.

The guard's ``reply`` only computes. What it must remember goes into ``Reply.log``; the oracle writes that to the disk
and passes it to ``fold``, both at once and when a killed job resumes. So a guard's state is always ``fold`` of its log.
A defense (`fmsteal.defenses.base`) prepares it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from fmsteal.oracle.ledger import Question

Depends = Literal["row", "client", "all", "batch"]
Per = Literal["ask", "image", "client"]


@dataclass(frozen=True)
class Ask:
    """Questions that are answered together, in the order they were asked.

    Attributes:
        questions: who asked about which image, and how often before.
        answers: float32 ``(n, w)``: the answers without this defense.
        raw: float32 ``(n, W)``: the victim's logits or embeddings, which never leave the API.
        images: reads the images ``(n, 3, H, W)``: uint8 from the pool, or float in [0, 1].
        now: seconds on the simulated clock, the sum of all delays so far.
        seed: seed of random defenses.
        salt: separates the random numbers of defenses in a chain.
    """

    questions: Sequence[Question]
    answers: Tensor
    raw: Tensor
    images: Callable[[], Tensor]
    now: float = 0.0
    seed: int = 0
    salt: str = ""

    def generator(self, row: int, *, per: Per = "ask") -> torch.Generator:
        """A generator for this row, the same for the same seed and question.

        ``per="image"`` is the same for every ask about one image, ``per="client"`` for every ask of one client.
        """
        client, image, nth = self.questions[row]
        names = {
            "ask": f"{self.seed}/{client}/{image.hex()}/{nth}",
            "image": f"{self.seed}/image/{image.hex()}",
            "client": f"{self.seed}/client/{client}",
        }
        name = f"{names[per]}/{self.salt}" if self.salt else names[per]
        return torch.Generator().manual_seed(
            int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1
        )

    def part(self, rows: Sequence[int]) -> Ask:
        """An `Ask` of these rows only."""
        where = torch.tensor(list(rows), dtype=torch.long)
        return replace(
            self,
            questions=[self.questions[row] for row in rows],
            answers=self.answers[where],
            raw=self.raw[where],
            images=lambda: self.images()[where],
        )


@dataclass(frozen=True)
class Reply:
    """A guard's reply to an `Ask` of n questions.

    Attributes:
        answers: float ``(n, guard.width)``; the rows of refused questions are ignored.
        log: the bytes that ``fold`` needs for each question; None if nothing is to be remembered.
        usd: ``(n,)`` US dollars on top of the budget's price; refused questions are not charged.
        seconds: ``(n,)`` delays, added to the simulated clock (no real waiting).
        flags: ``(n,)`` numbers or booleans by name, whose sums are reported.
        refused: bool ``(n,)``: questions that get no answer and use no budget.
    """

    answers: Tensor
    log: Sequence[bytes] | None = None
    usd: Tensor | None = None
    seconds: Tensor | None = None
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    refused: Tensor | None = None


class Guard(Protocol):
    """A defense prepared for one victim. A guard of a `batch` defense also has ``batch``, the questions in a batch.

    Attributes:
        width: number of values in an answer that leaves the API.
    """

    width: int

    def reply(self, ask: Ask) -> Reply:
        """Answer the questions without changing any state."""
        ...

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Update the state with what ``reply`` logged about these questions, in this order."""
        ...
