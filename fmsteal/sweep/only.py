"""Options for some choices of an axis alone: ``hydra.sweeper.only`` of a sweep.

An option that only some choices have (ActiveThief's rounds, in a sweep of many attacks) cannot be given to every job:
the others would refuse it. A sweep lists the choices that get it, by name or pattern::

    hydra:
      sweeper:
        only:
          attack:
            activethief*: {attack.rounds: 4}

Overrides given for a job itself take precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.quoting import spell

KEY = "hydra.sweeper.only"


class Only:
    """Finds the options of each job of a sweep, and keeps track of those that no job gets."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], bool] = {}  # by axis and pattern, whether a job has a matching choice
        self._offered: dict[str, dict[str, None]] = {}  # the choices of each axis

    def words(self, cfg: DictConfig, given: Iterable[str]) -> list[str]:
        """The overrides that a job gets besides those it was ``given``.

        Raises:
            ConfigError: the sweep's ``only`` does not map axes to choices to options.
        """
        only = OmegaConf.select(cfg, KEY)
        if only is None:
            return []
        options = dict[str, Any]()
        for axis, pattern, wanted in _entries(OmegaConf.to_container(only, resolve=True)):
            self._offered.setdefault(axis, {}).update(dict.fromkeys(_preset(cfg, axis)))
            choice = _choice(cfg, axis)
            self._offered[axis][choice] = None
            meant = fnmatchcase(choice, pattern)
            self._found[axis, pattern] = self._found.get((axis, pattern), False) or meant
            options |= wanted if meant else {}
        own = {word.lstrip("+~").partition("=")[0] for word in given}
        return [f"{key}={spell(value)}" for key, value in options.items() if key not in own]

    def require_used(self) -> None:
        """Check that each pattern matches a choice of the sweep, or one it had before it was narrowed.

        Raises:
            ConfigError: a pattern matches none; the message lists the choices.
        """
        for (axis, pattern), found in self._found.items():
            there = self._offered[axis]
            if not found and not any(fnmatchcase(choice, pattern) for choice in there):
                raise ConfigError(
                    f"{KEY}.{axis}: '{pattern}' is no choice of this sweep, whose {axis} is {', '.join(there)}."
                )


def _entries(only: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Axis, pattern of choices, and the options for them."""
    for axis, by_choice in (only if isinstance(only, dict) else {"": only}).items():
        for pattern, options in (by_choice if isinstance(by_choice, dict) else {"": by_choice}).items():
            if not isinstance(options, dict):
                raise ConfigError(
                    f"{KEY} is for choices of an axis: {{attack: {{activethief*: {{attack.rounds: 4}}}}}}, not {only}."
                )
            yield str(axis), str(pattern), options


def _choice(cfg: DictConfig, axis: str) -> str:
    """A job's choice on an axis: a file of a group, or a value."""
    choices = cfg.hydra.runtime.choices
    return str(choices[axis] if axis in choices else OmegaConf.select(cfg, axis))


def _preset(cfg: DictConfig, axis: str) -> list[str]:
    """The choices of an axis that a sweep's preset lists, even where the command line overrides them."""
    swept = (cfg.hydra.sweeper.params or {}).get(axis, "")
    return [choice.strip(" '\"") for choice in str(swept).split(",") if choice]
