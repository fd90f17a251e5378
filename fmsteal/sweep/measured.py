"""What finished jobs have taken, by the kind of their work: the times that a plan is made from. Imports no torch."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmsteal.base.store import read_json
from fmsteal.identity.keys import ANY_SEED
from fmsteal.identity.kinds import name_theft_kind
from fmsteal.records.folders import RESULT, RUNS, SWEEPS
from fmsteal.records.prepared import list_notes
from fmsteal.records.shapes import fault_of_result, is_number

CPU, GPU = "CPU", "GPU"

Kind = tuple[str, ...]
Table = dict[Kind, dict[int, list[float]]]


def _make_table() -> Table:
    return defaultdict(lambda: defaultdict(list))


@dataclass
class Times:
    """Seconds of finished jobs.

    Attributes:
        thefts: seconds of thefts alone, by kind and device, then by queries.
        near: the same by the near kind.
        measurements: seconds of a job's measurements, by kind, digest of what it measures, and device.
        near_measurements: the same by the near kind and device, whatever was measured.
        victims: seconds of a victim's training, by kind and device.
        done: settings, queries and seed of each job, whose images and features are in the cache.
        jobs: how many jobs were read.
    """

    thefts: Table = field(default_factory=_make_table)
    near: Table = field(default_factory=_make_table)
    measurements: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    near_measurements: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    victims: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    done: list[tuple[Mapping[str, Any], int, Any]] = field(default_factory=list)
    jobs: int = 0

    def add(self, result: Mapping[str, Any]) -> None:
        """Add a finished job, given its result."""
        settings, queries, total = result.get("settings"), result["axis"].get("queries"), _seconds(result)
        if not isinstance(settings, dict) or not isinstance(queries, int) or total is None:
            return
        parts = result.get("seconds")
        known = parts if isinstance(parts, dict) else {}
        measuring, making = (_number(known.get(name)) for name in ("measurements", "victim"))
        device, kind, near = _device(result), name_theft_kind(settings), name_theft_kind(settings, near=True)
        stolen = max(total - measuring - making, 0.0)
        self.thefts[kind, device][queries].append(stolen)
        self.near[near, device][queries].append(stolen)
        if "measurements" in known:
            self.measurements[kind, str(result.get("asked")), device].append(measuring)
            self.near_measurements[near, device].append(measuring)
        seed = result["axis"].get("seed")
        own = {k: seed if k.endswith(".seed") and v == ANY_SEED else v for k, v in settings.items()}
        self.done.append((own, queries, seed))
        self.jobs += 1


def read_times(output: Path, cache: Path) -> Times:
    """The times of all finished jobs below an output folder, and of the victims in its cache."""
    times = Times()
    for pattern in (f"{RUNS}/*/{RESULT}", f"{SWEEPS}/*/*/{RESULT}"):
        for file in sorted(output.glob(pattern)):
            try:
                result = read_json(file)
            except OSError:  # another user's
                continue
            if not fault_of_result(result):
                times.add(result)
    for _, note in list_notes(cache):
        if isinstance(note.get("kind"), str) and is_number(note.get("seconds")):
            times.victims[note["kind"], _name_device(note.get("device"))].append(float(note["seconds"]))
    return times


def expect(seconds: Mapping[int, Sequence[float]], queries: int) -> float:
    """The seconds that a theft of ``queries`` queries takes, by those of other budgets.

    Between two budgets on the line through them. Beyond all of them on the least-squares line of all, but no less than
    the largest takes, and no more than the smallest. By a single smaller one in proportion; by a single larger one, as
    long as that.
    """
    means = {budget: statistics.fmean(some) for budget, some in sorted(seconds.items())}
    if queries in means:
        return means[queries]
    below: int | None = max((budget for budget in means if budget < queries), default=None)
    above: int | None = min((budget for budget in means if budget > queries), default=None)
    if below is not None and above is not None:
        return means[below] + (means[above] - means[below]) * (queries - below) / (above - below)
    if len(means) == 1:
        return next(iter(means.values())) * (1.0 if below is None else queries / max(below, 1))
    slope, start = statistics.linear_regression(list(means), list(means.values()))
    on_line = max(0.0, start + slope * queries)
    return min(on_line, means[above]) if above is not None else max(on_line, means[max(means)])


def _seconds(result: Mapping[str, Any]) -> float | None:
    seconds = (result.get("cost") or {}).get("cost/seconds")
    return float(seconds) if is_number(seconds) and 0 <= seconds < float("inf") else None


def _number(value: Any) -> float:
    return float(value) if is_number(value) else 0.0


def _device(result: Mapping[str, Any]) -> str:
    """Where a job ran; results of earlier versions say only which GPUs there were."""
    if isinstance(device := result.get("device"), str):
        return _name_device(device)
    env = result.get("env")
    return GPU if isinstance(env, dict) and env.get("gpus") else CPU


def _name_device(device: Any) -> str:
    return CPU if device in ("cpu", None) else GPU
