"""The errors a user can act on.

Each message is one paragraph that names the thing, what was expected and what to do. The command line prints it
without a stack trace (``HYDRA_FULL_ERROR=1`` brings the trace back).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class FmstealError(Exception):
    """Base of every error whose message is written for the person at the command line."""


class ConfigError(FmstealError):
    """A config names something that does not exist, or gives a class an option it does not take."""


class DataError(FmstealError):
    """Images, labels or weights are missing, unreadable or do not fit together."""


class StoreError(FmstealError):
    """The cache or an output folder cannot be read or written."""


class LedgerError(FmstealError):
    """A ledger belongs to another theft, or an answer does not fit the ones before it."""


class BudgetExceeded(FmstealError):
    """An attack asked for more answers than its budget allows; nothing was answered."""


class AttackError(FmstealError):
    """An attack broke its contract: wrong number of classes, NaN weights, no model."""


class VictimError(FmstealError):
    """The API returned something that is not a valid answer: NaN, infinity."""


class TheftError(FmstealError):
    """A theft cannot be sealed or used: its ledger does not account for it, or it belongs to other content."""


class JobError(FmstealError):
    """A folder holds no finished job, or a sweep ended without all of its results."""


class ExportError(FmstealError):
    """A format cannot hold this thief, or the package that writes it is not installed."""


class LeaseBusy(FmstealError):
    """Another process is working on something, and this one does not wait for it.

    Attributes:
        marker: marker file of the lease that the other process holds.
    """

    def __init__(self, message: str, marker: Path) -> None:
        super().__init__(message)
        self.marker = marker


class LeaseLost(FmstealError):
    """Another process has taken over what this one was working on."""


class DefenseError(FmstealError):
    """A defense broke its contract: answers of another shape, NaN, a log that does not fit, or it failed."""


class Refused(FmstealError):
    """A defense refused some of the questions. The others are answered and paid for; the attack may continue.

    Attributes:
        answered: bool array ``(n,)``, true for each question that was answered.
        answers: float32 tensor ``(answered.sum(), width)``: their answers, in the order of the questions.
    """

    def __init__(self, message: str, answered: Any = None, answers: Any = None) -> None:
        super().__init__(message)
        self.answered, self.answers = answered, answers
