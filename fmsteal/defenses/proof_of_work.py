"""Proof of work: a client that learns more than an honest one has to wait (Dziedzic, Kaleem, Lu, Papernot, ICLR 2022).

Every 64 questions cost a client ``clip(base^|cost - expected|, 0.1, 2948)`` seconds, where cost is how much its answers
have revealed so far, and expected is how much an honest client's would for the same number of questions. The paper
measures this as the privacy loss of PATE (base 1.0075) or of a private nearest neighbour search (1.18 or 1.05). Here it
is the entropy of the answers in nats; expected is their number times the mean entropy of the answers to training
images, which underestimates an honest client's, since the victim is surer of training images. No puzzle is solved: the
seconds are added to the simulated clock.
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

BATCH = 64  # questions per delay, which comes with the last of them
LEAST, MOST = 0.1, 2948.0  # seconds per batch
HONEST = 1000  # at most this many training images estimate what an honest client learns
_COST = struct.Struct("<d")


class ProofOfWork:
    """Changes no answer; delays every 64th answer to a client by the price of the 64."""

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "client"

    def __init__(self, base: float = 1.18) -> None:
        """``base`` says how fast the delay grows with the difference from the expected nats, above or below."""
        if not 1 <= base < float("inf"):
            raise ConfigError(f"defense.base must be 1 or more, and finite, not {base}.")
        self.base = base

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Measure the mean entropy of the victim's answers to training images."""
        ids = choose_ids(len(train), min(HONEST, len(train)), 0)
        honest = entropies(victim.answer(victim.raw(train, ids, ctx)).double())
        return WorkGuard(victim.width, self.base, float(honest.mean()), name_of(self))


@dataclass(frozen=True)
class Told:
    """How many questions a client has asked, and how many nats the answers revealed."""

    questions: int = 0
    nats: float = 0.0


class WorkGuard:
    """Sums the nats revealed to each client; the log holds the entropy of each answer."""

    def __init__(self, width: int, base: float, honest: float, name: str) -> None:
        self.width, self.honest = width, honest
        self._base, self._name = base, name
        self._clients: dict[int, Told] = defaultdict(Told)

    def reply(self, ask: Ask) -> Reply:
        """The unchanged answers, with seconds for those that end a batch of their client."""
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
        """Add the nats that the answers revealed.

        Raises:
            DefenseError: an entry was not written by this defense.
        """
        for question, entry in zip(questions, log, strict=True):
            if len(entry) != _COST.size:
                raise foreign_entry(self._name, entry)
            self._clients[question.client] = _added(self._clients[question.client], *_COST.unpack(entry))


def entropies(p: Tensor) -> Tensor:
    """The entropy of each row in nats, ``(n,)``."""
    return -torch.special.xlogy(p, p).sum(1)


def price(base: float, excess: float) -> float:
    """Seconds for a batch, from how many nats the cost is above or below the expected one."""
    return max(LEAST, math.exp(min(abs(excess) * math.log(base), math.log(MOST))))


def _added(told: Told, nats: float) -> Told:
    return replace(told, questions=told.questions + 1, nats=told.nats + nats)
