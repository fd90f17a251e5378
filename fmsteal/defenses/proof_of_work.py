"""Proof of work: who learns more than an honest client has to wait (Dziedzic, Kaleem, Lu, Papernot, ICLR 2022).

A client's questions cost it ``clip(base^|cost - expected|, 0.1, 2948)`` seconds for each 64 of them, where cost is how
much they have revealed so far, and expected is how much as many of an honest client's would. The paper measures that as
the privacy loss of PATE (base 1.0075) or of a private nearest neighbour search (1.18 or 1.05). Here it is the entropy
of the answers in nats; expected is their number times the mean entropy of the answers to training images, which
flatters nobody: the victim is surer of those than of an honest client's. Nobody solves a puzzle: the seconds go onto
the simulated clock.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import choose_ids
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.defenses.probabilities import to_distributions
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

BATCH = 64  # questions that are waited for together, at the last of them
LEAST, MOST = 0.1, 2948.0  # seconds a batch
HONEST = 1000  # training images, at most, whose answers tell what an honest client learns
_COST = struct.Struct("<d")


class ProofOfWork:
    """Changes no answer; delays every 64th of a client by what the 64 are worth."""

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "client"

    def __init__(self, base: float = 1.18) -> None:
        """``base`` says how fast seconds grow with nats told above what is expected, or below."""
        if not 1 <= base < float("inf"):
            raise ConfigError(f"defense.base must be 1 or more, and finite, not {base}.")
        self.base = base

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Ask the victim what its answers to training images tell."""
        ids = choose_ids(len(train), min(HONEST, len(train)), 0)
        honest = entropies(victim.answer(victim.raw(train, ids, ctx)).double())
        return WorkGuard(victim.width, self.base, float(honest.mean()), name_of(self))


@dataclass(frozen=True)
class Told:
    """What a client has asked, and what it was told by it, in nats."""

    questions: int = 0
    nats: float = 0.0


class WorkGuard:
    """Sums what each client was told; the log holds the entropy of each answer."""

    def __init__(self, width: int, base: float, honest: float, name: str) -> None:
        self.width, self.honest = width, honest
        self._base, self._name = base, name
        self._clients: dict[int, Told] = defaultdict(Told)

    def reply(self, ask: Ask) -> Reply:
        """The answers as they are, with seconds for those that end a batch of their client's."""
        clients, log, seconds = dict(self._clients), [], []
        for question, nats in zip(
            ask.questions, entropies(to_distributions(ask.answers, self._name)).tolist(), strict=True
        ):
            told = _added(clients.get(question.client, Told()), nats)
            clients[question.client] = told
            due = told.questions % BATCH == 0
            seconds.append(price(self._base, told.nats - self.honest * told.questions) if due else 0.0)
            log.append(_COST.pack(nats))
        return Reply(ask.answers, log, seconds=torch.tensor(seconds, dtype=torch.float64))

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Add what the answers told.

        Raises:
            DefenseError: an entry is none of this defense's.
        """
        for question, entry in zip(questions, log, strict=True):
            if len(entry) != _COST.size:
                raise foreign_entry(self._name, entry)
            self._clients[question.client] = _added(self._clients[question.client], *_COST.unpack(entry))


def entropies(p: Tensor) -> Tensor:
    """The entropy of each row in nats, ``(n,)``."""
    return -torch.special.xlogy(p, p).sum(1)


def price(base: float, excess: float) -> float:
    """Seconds for a batch, by how many nats it is above or below what is expected."""
    return max(LEAST, math.exp(min(abs(excess) * math.log(base), math.log(MOST))))


def _added(told: Told, nats: float) -> Told:
    return replace(told, questions=told.questions + 1, nats=told.nats + nats)
