"""What a search tries: the values of each option, as given by Hydra's overrides. Imports nothing heavy.

``interval(1e-4,1e-1)`` holds all numbers between two, ``tag(log,interval(1e-4,1e-1))`` evenly by their logarithm,
``int(interval(1,8))`` whole ones, ``range(1,9,2)`` those of a range, and ``soft,hard`` choices without an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from fmsteal.base.errors import ConfigError
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.base.quoting import quote_override

INNER = 0.618  # where between the ends of an interval a value is checked: rarely a whole number
DIGITS = 4  # of a number that is tried: it is part of the job's key and of its name

Value = float | int | str


@dataclass(frozen=True)
class Parameter:
    """An option whose value is searched for.

    Attributes:
        key: the option, as in an override.
        kind: ``float`` or ``int`` from ``low`` to ``high``, or a ``choice`` from ``choices``.
        low: the smallest value.
        high: the largest value, which may be tried too.
        step: distance of two values; None for any.
        log: whether values are tried evenly by their logarithm.
        choices: the values as written in an override.
    """

    key: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def word(self, value: Value) -> str:
        """The override that gives the option a value."""
        if self.kind == "float":
            value = min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)
        return quote_override(f"{self.key}={value}")

    def samples(self) -> list[Value]:
        """Values that are checked before any is tried: all choices; the ends of an interval and one between them."""
        if self.kind == "choice":
            return list(self.choices)
        ends: list[Value] = [self.low, self.high]
        if self.kind == "int":
            return [int(end) for end in ends]
        return ends if self.step else [*ends, self.low + INNER * (self.high - self.low)]

    def __str__(self) -> str:
        if self.kind == "choice":
            return ", ".join(self.choices)
        how = [*(["by logarithm"] if self.log else []), *([f"in steps of {self.step:g}"] if self.step else [])]
        return f"{self.low:g} to {self.high:g}" + (f" ({', '.join(how)})" if how else "")


@dataclass(frozen=True)
class Space:
    """What a search tries, and what it leaves alone.

    Attributes:
        parameters: the options whose values are searched for.
        fixed: the other overrides.
        seeds: the seeds over which a trial is averaged; empty for the config's own seed alone.
    """

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]
    seeds: tuple[int, ...] = ()

    def jobs(self, values: Sequence[Value]) -> list[list[str]]:
        """The overrides of a trial's jobs, one for each seed; ``values`` are those of the parameters, in order."""
        own = [parameter.word(value) for parameter, value in zip(self.parameters, values, strict=True)]
        return [[*self.fixed, *own, *(f"seed={seed}" for seed in some)] for some in self._seeds()]

    def samples(self) -> list[list[str]]:
        """The overrides of jobs in which every parameter has each of its `Parameter.samples` once."""
        each = [parameter.samples() for parameter in self.parameters]
        first: list[Value] = [values[0] for values in each]
        found = self.jobs(first)
        for place, values in enumerate(each):
            for value in values[1:]:
                found += self.jobs([*first[:place], value, *first[place + 1 :]])[:1]
        return found

    def _seeds(self) -> list[tuple[int, ...]]:
        return [(seed,) for seed in self.seeds] or [()]


def read_space(loader: SharedLoader, arguments: Sequence[str]) -> Space:
    """The space that overrides describe; of two for one option the later counts.

    Raises:
        ConfigError: an interval cannot be searched.
    """
    parsed = OverridesParser.create(loader).parse_overrides(list(arguments))
    given = {override.get_key_element(): override for override in parsed}
    seeds = given.pop("seed") if _is_swept(given.get("seed")) else None
    swept = {key: override for key, override in given.items() if override.is_sweep_override()}
    return Space(
        tuple(_parameter(key, override) for key, override in swept.items()),
        tuple(quote_override(str(o.input_line)) for key, o in given.items() if key not in swept),
        () if seeds is None else _read_seeds(seeds),
    )


def list_values(override: Override) -> list[str]:
    """The values of an axis; for an interval those that are checked before any is tried."""
    if override.is_interval_sweep():
        return [str(value) for value in _parameter(override.get_key_element(), override).samples()]
    return list(override.sweep_string_iterator())


def _is_swept(override: Override | None) -> bool:
    return override is not None and override.is_sweep_override()


def _read_seeds(override: Override) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(seed) for seed in override.sweep_string_iterator()))
    except Exception:  # an interval, or no whole numbers
        raise ConfigError(
            f"{override.input_line}: a search does not look for seeds, it averages over them, so list them: seed=0,1,2."
        ) from None


def _parameter(key: str, override: Override) -> Parameter:
    value, kind = override.value(), "float"
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None and high is not None
        kind = "int" if isinstance(low, int) and isinstance(high, int) else "float"
        log = "log" in value.tags
        if not low < high or (log and low <= 0):
            why = "its first number is above 0" if log and low <= 0 else "its first number is the smaller one"
            raise ConfigError(f"{override.input_line}: of an interval to search, {why}.")
        return Parameter(key, kind, low, high, log=log)  # type: ignore[arg-type]
    if isinstance(value, RangeSweep) and not value.shuffle:
        numbers = [float(text) for text in override.sweep_string_iterator()]
        whole = all(number == int(number) for number in numbers)
        if len(numbers) > 1:
            return Parameter(key, "int" if whole else "float", min(numbers), max(numbers), abs(float(value.step or 1)))
    assert isinstance(value, ChoiceSweep | RangeSweep)
    return Parameter(key, "choice", choices=tuple(dict.fromkeys(override.sweep_string_iterator())))
