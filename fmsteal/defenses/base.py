"""What an API does to an answer before it leaves: the contract of every defense.

A `Defense` is what a config names. Its ``prepare`` makes the `Guard` that stands in front of one victim; it may train
on the victim's data first. The guard's ``reply`` only computes. What it must remember goes into ``Reply.log``; the
oracle writes that to the disk and passes it to ``fold``, both at once and when a killed job resumes. So a guard's state
is always ``fold`` of its log. A defense that depends only on the row is a `RowDefense`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor

from fmsteal.base.errors import DefenseError, FmstealError
from fmsteal.defenses.replacing import find_server, is_replacing
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.simulated import cannot_simulate

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim


class Defense(Protocol):
    """What a config names. It may also declare which answers it works on: ``answers`` (`fmsteal.config.answers`).

    One that answers by a model of its own says ``replaces = True`` (`fmsteal.defenses.replacing`).

    Attributes:
        depends: what an answer may depend on: its ``row``; what this ``client`` asked before; what ``all`` clients
            asked before; or the ``batch`` it is part of.
    """

    @property
    def depends(self) -> Depends:
        """What an answer may depend on."""
        ...

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Make the guard of this victim, whose training images are ``train``."""
        ...


class RowDefense:
    """A defense that depends only on the row: define ``protect``, and ``width`` if that changes."""

    depends: ClassVar[Depends] = "row"

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """The rows to return, ``(n, width)``, for rows ``(n, w)`` and any n; ``ask`` has everything else."""
        raise NotImplementedError

    def width(self, victim: int) -> int:
        """Width of an answer that leaves, given the ``victim``'s width."""
        return victim

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Nothing needs preparing."""
        return RowGuard(self, self.width(victim.width))

    def simulate(self, width: int, seed: int) -> Guard:
        """The guard that an attacker makes who knows the defense and its options (`fmsteal.oracle.simulated`).

        One that is prepared needs its own: without the victim, and with secrets drawn from ``seed``.

        Raises:
            ConfigError: the defense is prepared, and cannot be simulated.
        """
        if type(self).prepare is not RowDefense.prepare:
            raise cannot_simulate(self)
        return RowGuard(self, self.width(width))


class RowGuard:
    """A `RowDefense` in front of a victim."""

    def __init__(self, defense: RowDefense, width: int) -> None:
        self.width = width
        self._protect = defense.protect

    def reply(self, ask: Ask) -> Reply:
        """The protected rows."""
        return Reply(self._protect(ask.answers, ask))

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """There is no state."""


class NoDefense(RowDefense):
    """Returns the answer as it is."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return ``answers``."""
        return answers


def name_of(defense: Defense) -> str:
    """The class of a defense, as named in a config."""
    return f"{type(defense).__module__}.{type(defense).__qualname__}"


def foreign_entry(name: str, entry: bytes, due: str | None = None) -> DefenseError:
    """The error for a log entry that the guard did not write.

    Args:
        name: the defense's name, see `name_of`.
        entry: the entry it cannot read.
        due: what an entry should hold, where its length depends on the victim.
    """
    read, whose = f"read {len(entry)} bytes of its log:", "it is another defense's"
    if due is not None:
        read, whose = (
            f"take {len(entry)} bytes of its log for {due}:",
            "the log is another defense's, or of another victim",
        )
    return DefenseError(f"{name} cannot {read} {whose}. Do the job again: force=true.")


def prepare(defense: Defense, victim: Victim, train: Images, ctx: Context) -> Guard:
    """The defense's guard for this victim.

    Raises:
        DefenseError: preparing failed or did not give a guard; the message names the defense.
    """
    name = name_of(defense)
    if not callable(getattr(defense, "prepare", None)):
        raise DefenseError(
            f"{name} has no prepare(victim, train, ctx). Derive it from fmsteal.defenses.base.RowDefense."
        )
    try:
        guard = defense.prepare(victim, train, ctx)
    except FmstealError:
        raise
    except Exception as error:  # of any kind: the defense may be third-party code
        raise DefenseError(f"{name} could not be prepared ({type(error).__name__}: {error}).") from error
    missing = [part for part in ("reply", "fold") if not callable(getattr(guard, part, None))]
    missing += ["serve"] if is_replacing(defense) and find_server(guard) is None else []
    missing += [part for part in _numbers(defense) if not _positive(getattr(guard, part, None))]
    if missing:
        raise DefenseError(
            f"{name} prepared a {type(guard).__name__}, which is no guard: it lacks {', '.join(missing)}."
        )
    return guard


def _numbers(defense: Defense) -> Sequence[str]:
    return ("width", "batch") if getattr(defense, "depends", "row") == "batch" else ("width",)


def _positive(number: object) -> bool:
    return isinstance(number, int) and number > 0
