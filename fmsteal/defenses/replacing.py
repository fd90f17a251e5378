"""Defenses that replace the victim: a model of their own answers, and what a thief is compared with is that model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from fmsteal.oracle.guard import Ask, Guard, Reply
from fmsteal.oracle.ledger import Question


class ReplacingGuard:
    """Answers by a model of its own: define ``serve``. Its defense says ``replaces = True``."""

    width: int

    def serve(self, images: Tensor) -> Tensor:
        """The softmax rows ``(n, K)`` of the model that serves, before any perturbation; each depends on its image."""
        raise NotImplementedError

    def reply(self, ask: Ask) -> Reply:
        """The model's rows as they are."""
        return Reply(self.serve(ask.images()).float() if len(ask.questions) else ask.answers)

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """There is no state."""


def find_server(guard: Guard) -> Callable[[Tensor], Tensor] | None:
    """The ``serve`` of a guard that answers by a model of its own; None if the victim's answers are behind it."""
    found: Callable[[Tensor], Tensor] | None = getattr(guard, "serve", None)
    return found


def is_replacing(defense: object) -> bool:
    """Whether a defense answers by a model of its own."""
    return bool(getattr(defense, "replaces", False))
