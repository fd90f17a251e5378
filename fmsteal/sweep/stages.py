"""Which jobs of a grid are run, stage by stage: victims, thefts, measurements of thefts that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmsteal.config.schema import Stage
from fmsteal.records import results
from fmsteal.records.folders import SweepFolder
from fmsteal.records.prepared import is_prepared
from fmsteal.records.results import JobOnDisk
from fmsteal.sweep.grid import Grid, SweepJob
from fmsteal.tracking.naming import find_varying, run_name

if TYPE_CHECKING:
    from fmsteal.report.show.live import StageJobs


class SweepPlan:
    """Which jobs of a grid are run.

    Attributes:
        victims: for each victim that is needed but not in the store, the first unfinished job that needs it.
        thefts: the jobs that have to steal.
        measured: the jobs whose theft is sealed already, by any sweep: they only measure what is missing.
    """

    def __init__(self, grid: Grid, stage: Stage) -> None:
        self.grid, self.stage = grid, stage
        needed = [job for job in grid.jobs if not job.finished]
        self.ready = {job.victim for job in grid.jobs if job.victim_ready}
        missing = [job for job in _take_first_of_each_victim(needed) if job.victim not in self.ready]
        self.victims: Sequence[SweepJob] = missing if stage is not Stage.thieves else []
        thieves = needed if stage is not Stage.victims else []
        self.thefts: Sequence[SweepJob] = [job for job in thieves if not job.sealed]
        self.measured: Sequence[SweepJob] = [job for job in thieves if job.sealed]

    @property
    def thieves(self) -> Sequence[SweepJob]:
        """All jobs that are run to get a result."""
        return [*self.thefts, *self.measured]

    def make_stage(self, name: Literal["victims", "thieves"], folder: Path) -> StageJobs:
        """A launch, as the live display shows it."""
        from fmsteal.report.show import live

        place = SweepFolder(folder)
        if name == "victims":
            keys = {job.victim: job for job in self.victims}
            entries = {key: JobOnDisk(key, place.victim(key).path, results.MISSING, "victim") for key in keys}
            return live.StageJobs(name, entries, {}, prepared=lambda key: is_prepared(keys[key].cache, key))
        entries = {c.key: JobOnDisk(c.key, c.folder, results.MISSING, "thief", c.overrides) for c in self.thieves}
        differing = find_varying([{"axis": job.axis, "overrides": job.overrides} for job in self.grid.jobs])
        names = {job.key: run_name(job.axis, job.overrides, differing, "thief") for job in self.thieves}
        return live.StageJobs(name, entries, names, before=sum(job.finished for job in self.grid.jobs))


def _take_first_of_each_victim(jobs: Iterable[SweepJob]) -> list[SweepJob]:
    """The first job of each victim."""
    first: dict[str, SweepJob] = {}
    for job in jobs:
        first.setdefault(job.victim, job)
    return list(first.values())
