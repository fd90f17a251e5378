"""A measured figure, with everything tables, plots and pages need to show it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fmsteal.base.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """A figure of one thief.

    Attributes:
        name: such as ``test/agreement``. It is unique within a job, and must not change.
        value: the figure, a number.
        label: a few words for axes and headings; if empty, made from the name.
        higher_is_better: True if a higher value means a better theft, False if a lower one does, as for a distance.
            None if neither, as for the victim's own accuracy; such a metric has no best cell.
        interval: the 95 % interval, if there is one.
        bounds: the smallest and largest possible value, (0, 1) for a share; None: looked up by the metric's name. An
            end that is None has no limit. Intervals over seeds stay within; plots of a share show all from 0 to 1.

    Raises:
        ConfigError: `value` is not a number.
    """

    name: str
    value: float
    label: str = ""
    higher_is_better: bool | None = True
    interval: tuple[float, float] | None = None
    bounds: tuple[float | None, float | None] | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "value", float(self.value))
        except (TypeError, ValueError):
            kind = type(self.value).__name__
            raise ConfigError(f"The metric {self.name} must be one number, not {kind} {self.value!r:.60}.") from None
        object.__setattr__(self, "label", self.label or spell(self.name))


def spell(name: str) -> str:
    """A name in words: the label of a metric that has none of its own."""
    return name.removeprefix("test/").replace("_", " ")


def index_by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Metrics by name; of two with the same name the later one counts, at the position of the first."""
    return {metric.name: metric for metric in metrics}


def make_metrics(found: Mapping[str, float]) -> list[Metric]:
    """Metrics from plain numbers by name; nothing says which direction is better."""
    return [Metric(name, value, higher_is_better=None) for name, value in found.items()]


def record(metrics: Iterable[Metric]) -> dict[str, dict[str, Any]]:
    """Metrics as ``result.json`` holds them: ``metrics``, ``intervals`` and ``about``, each by metric name.

    ``about`` holds each metric's ``label``, ``higher_is_better`` (true, false or null), and ``bounds`` if it has any.
    """
    unique = index_by_name(metrics)
    return {
        "metrics": {name: metric.value for name, metric in unique.items()},
        "intervals": {name: metric.interval for name, metric in unique.items() if metric.interval is not None},
        "about": {
            name: {"label": metric.label, "higher_is_better": metric.higher_is_better}
            | ({} if metric.bounds is None else {"bounds": list(metric.bounds)})
            for name, metric in unique.items()
        },
    }
