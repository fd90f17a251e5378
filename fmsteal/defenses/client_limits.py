"""A budget and a rate limit for each client, as in an API's terms of use; the questions are not looked at."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

_ENTRY = struct.Struct("<?d")  # refused, when the client may ask again


class ClientLimits:
    """Changes no answer; refuses questions beyond a client's budget, and delays those asked too fast.

    Each account is a client of its own: an attack with several accounts (`sybil_remap`) has several budgets.
    """

    depends: ClassVar[Depends] = "client"

    def __init__(self, queries: int | None = 1000, per_second: float | None = None) -> None:
        """Let a client ask ``queries`` in total, ``per_second`` on the simulated clock; None means no limit."""
        if queries is not None and queries < 1:
            raise ConfigError(f"defense.queries must be at least 1, or null, not {queries}.")
        if per_second is not None and not 0 < per_second < float("inf"):
            raise ConfigError(f"defense.per_second must be above 0, and finite, or null, not {per_second}.")
        self.queries = queries
        self.per_second = per_second

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Nothing needs preparing: no client has asked anything yet."""
        return LimitGuard(victim.width, self.queries, self.per_second, name_of(self))


class ClientAccount(NamedTuple):
    """How many answers a client has had, and when it may get the next, in seconds on the clock."""

    answered: int = 0
    free: float = 0.0


class LimitGuard:
    """Counts each client's answers; the log holds whether a question was refused, and when the next is allowed."""

    def __init__(self, width: int, queries: int | None, per_second: float | None, name: str) -> None:
        self.width = width
        self._queries, self._pause, self._name = queries, 1 / per_second if per_second else 0.0, name
        self._accounts: dict[int, ClientAccount] = defaultdict(ClientAccount)

    def reply(self, ask: Ask) -> Reply:
        """The unchanged answers to the questions that are not refused."""
        accounts, now = dict(self._accounts), ask.now
        log, seconds, refused = [], [], []
        for question in ask.questions:
            account = accounts.get(question.client, ClientAccount())
            no = self._queries is not None and account.answered >= self._queries
            wait = 0.0 if no else max(0.0, account.free - now)
            now += wait
            if not no:
                account = ClientAccount(account.answered + 1, now + self._pause)
            accounts[question.client] = account
            log.append(_ENTRY.pack(no, account.free))
            seconds.append(wait)
            refused.append(no)
        return Reply(
            ask.answers, log, seconds=torch.tensor(seconds, dtype=torch.float64), refused=torch.tensor(refused)
        )

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Count the answers.

        Raises:
            DefenseError: an entry was not written by this defense.
        """
        for question, entry in zip(questions, log, strict=True):
            if len(entry) != _ENTRY.size:
                raise foreign_entry(self._name, entry)
            no, free = _ENTRY.unpack(entry)
            self._accounts[question.client] = ClientAccount(self._accounts[question.client].answered + (not no), free)
