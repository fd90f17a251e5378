"""Where a study's figures come from: dates, code, hardware, costs and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fmsteal.records.folders import JobFolder
from fmsteal.records.results import read_plan
from fmsteal.report.read.study import Study, StudyJob

HARDWARE = ("gpus", "cpu", "cores", "threads", "platform")


@dataclass(frozen=True)
class Fact:
    """Something that each result records about how it was made.

    Attributes:
        name: its name, as ``torch``.
        values: the number of jobs for each recorded value, the most frequent first.
    """

    name: str
    values: Mapping[str, int]

    @property
    def mixed(self) -> bool:
        """Whether jobs differ in it."""
        return len(self.values) > 1


def list_facts(jobs: Sequence[StudyJob]) -> list[Fact]:
    """What finished jobs were computed with: code, packages, hardware."""
    told = [_environment(job) for job in jobs]
    names = dict.fromkeys(name for env in told for name in env)
    counts = {name: Counter(env.get(name, "not recorded") for env in told) for name in names}
    return [Fact(name, dict(count.most_common())) for name, count in counts.items()]


def _environment(job: StudyJob) -> dict[str, str]:
    env = (job.on_disk.result or {}).get("env")
    if not isinstance(env, dict):
        return {}
    commit = str(env.get("git") or "not a checkout")
    packages = env.get("packages")
    found: dict[str, Any] = {"commit": commit + (", with changes not committed" if env.get("git_dirty") else "")}
    found |= {**(packages if isinstance(packages, dict) else {}), "python": env.get("python")}
    found |= {name: env[name] for name in HARDWARE if name in env}
    return {name: _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{n} x {name}" for name, n in Counter(map(str, value)).items()) or "none"
    return "none" if value is None else str(value)


def sum_costs(jobs: Sequence[StudyJob]) -> dict[str, float]:
    """The jobs' total costs, by name, without costs that none of them recorded."""
    names = ("cost/queries", "cost/usd", "cost/seconds")
    costs = {name: [c for job in jobs if (c := job.figure(name)) is not None] for name in names}
    return {name: sum(values) for name, values in costs.items() if values}


def find_times(study: Study) -> tuple[datetime | None, datetime | None]:
    """When the first of the sweeps was begun, according to its plan, and when the last result was written."""
    begun = [(read_plan(folder) or {}).get("begun") for folder in study.folders]
    written = [JobFolder(job.on_disk.folder).result.stat().st_mtime for job in study.done]
    starts = [value for value in begun if isinstance(value, int | float)]
    return _moment(min(starts, default=None)), _moment(max(written, default=None))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone()


def common_settings(study: Study) -> dict[str, str]:
    """The settings that are the same in all finished jobs, by name."""
    found = [settings for job in study.done if isinstance(settings := (job.on_disk.result or {}).get("settings"), dict)]
    if not found or len(found) < len(study.done):
        return {}
    first, *others = found
    absent = object()
    same = (name for name in sorted(first) if all(o.get(name, absent) == first[name] for o in others))
    return {name: str(first[name]) for name in same}
