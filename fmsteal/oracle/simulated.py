"""A defense as an attacker can carry it out who knows it, and has neither the victim nor its data."""

from __future__ import annotations

from typing import Protocol

from fmsteal.base.errors import ConfigError
from fmsteal.oracle.guard import Guard


class KnownDefense(Protocol):
    """A defense that can be simulated. A `RowDefense` has the method; others say by it that they can be."""

    def simulate(self, width: int, seed: int) -> Guard:
        """A guard without a victim, for answers of that ``width``; the defense's own secrets are drawn from ``seed``.

        Raises:
            ConfigError: the defense needs the victim, or its data.
        """
        ...


def simulate(defense: object, width: int, seed: int) -> Guard:
    """The guard of a `KnownDefense`.

    Raises:
        ConfigError: the defense cannot be simulated; the message names it.
    """
    make = getattr(defense, "simulate", None)
    if make is None:
        raise cannot_simulate(defense)
    guard: Guard = make(width, seed)
    return guard


def cannot_simulate(defense: object) -> ConfigError:
    """The error for a defense that needs the victim, its data, or what its clients asked before."""
    return ConfigError(
        f"{name_of(defense)} cannot be simulated by an attacker: it needs the victim, its training images or what its "
        "clients asked before. Choose an attack that does not undo the defense (attack=top1, attack=knockoff), or give "
        "this one another defense to undo: 'attack.defense={_target_: fmsteal.defenses...}'."
    )


def name_of(defense: object) -> str:
    """The class of a defense, as named in a config."""
    return f"{type(defense).__module__}.{type(defense).__qualname__}"
