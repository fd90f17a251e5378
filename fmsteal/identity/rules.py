"""What a class or function declares about its options: which never count, and when one has no effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Made = TypeVar("Made", bound=Callable[..., Any])
Condition = Mapping[str, Any]
Ignores = Mapping[str, Condition]


def declare(*, version: int = 1, machine: frozenset[str] = frozenset(), ignores: Ignores | None = None) -> Any:
    """Declare a function's rules. A class declares them as ``ClassVar``s of the same names.

    Args:
        version: raised when the same options come to mean something else; earlier thefts then no longer match.
        machine: options that never count: where something is, what it costs.
        ignores: options that can have no effect, by dotted name, each with the condition on options of the same node
            under which it has none. ``{}`` means always, a list means any of its values. A name that begins with ``/``
            is from the config's root, also in the condition.
    """

    def mark(function: Made) -> Made:
        for name, value in (("version", version), ("machine", machine), ("ignores", ignores or {})):
            setattr(function, name, value)
        return function

    return mark
