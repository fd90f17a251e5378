"""What a class or function says about its own options: which never count, and when one has no effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Made = TypeVar("Made", bound=Callable[..., Any])
Condition = Mapping[str, Any]
Ignores = Mapping[str, Condition]


def declare(*, version: int = 1, machine: frozenset[str] = frozenset(), ignores: Ignores | None = None) -> Any:
    """Declare a function's rules. A class states the same as ``ClassVar``s of these names.

    Args:
        version: raised when the same options come to mean something else; thefts made before are then others.
        machine: options that never count: where something is, what it costs.
        ignores: options that have no effect, by dotted name, with the condition on options of the same node under
            which they have none; ``{}`` is always, a list is any of its values. A name that begins with ``/`` is from
            the config's root, in the condition too.
    """

    def mark(function: Made) -> Made:
        for name, value in (("version", version), ("machine", machine), ("ignores", ignores or {})):
            setattr(function, name, value)
        return function

    return mark
