"""``hydra.launcher.wait=false``: leaves a sweep's jobs in a cluster's queue, and ends.

The victims are one array. The thefts of each of them are another, which begins once that victim's job has ended well;
if it fails, the cluster cancels them. The thefts whose victim is there already wait for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from fmsteal.base import slurm, stopping
from fmsteal.base.errors import ConfigError, FmstealError, JobError
from fmsteal.base.lease import lease
from fmsteal.records.folders import SweepFolder
from fmsteal.records.prepared import is_prepared
from fmsteal.records.queued import THEFTS, VICTIMS, Array, Place, Queued, name_arrays
from fmsteal.sweep.grid import SweepJob

if TYPE_CHECKING:
    from fmsteal.sweep.launches import Launches
    from fmsteal.sweep.stages import SweepPlan

Jobs = Sequence[SweepJob]


def is_asked(launcher: DictConfig) -> bool:
    """Whether a launcher is told not to wait for the jobs."""
    return OmegaConf.select(launcher, "wait", default=True) is False


def refuse_queued(plan: SweepPlan, folder: Path, launcher: DictConfig) -> None:
    """Refuse to run jobs here that an earlier command has left in a queue.

    Raises:
        ConfigError: some are still in it, and this command is not one that leaves its jobs to the same queue.
    """
    if is_asked(launcher):
        return
    queued = Queued.read(folder)
    there = queued.ask() or {}
    places = [place for name in _names(plan) if (place := queued.places().get(name)) and place.id in there]
    if places:
        raise ConfigError(
            f"{len(places)} jobs of {folder} are in Slurm's queue ({name_arrays(p.array for p in places)}). Wait for "
            f"them (fmsteal status {folder} --watch), end them (fmsteal cancel {folder}), or add jobs to the queue: "
            "hydra/launcher=slurm hydra.launcher.wait=false."
        )


def submit(plan: SweepPlan, launches: Launches, folder: Path) -> None:
    """Submit the jobs of a plan that are not in the queue already, and say how to follow and to end them.

    Raises:
        CompactHydraException: another command is submitting them, or the cluster refused some. What it has taken stays
            in the queue, and is recorded.
    """
    try:
        with lease(SweepFolder(folder).submitting, "the submission of this sweep", patience=0):
            _Submission(launches, folder).run(plan)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error


class _Submission:
    """One command's submissions, each recorded as soon as the cluster has taken it."""

    def __init__(self, launches: Launches, folder: Path) -> None:
        self._launches, self._folder = launches, folder
        self._cluster = slurm.name_cluster()
        self._queued = Queued.read(folder)
        self._there = _require_known(self._queued)
        self._before = {array.id for array in self._queued.arrays}

    def run(self, plan: SweepPlan) -> None:
        """Submit, then print what is in the queue."""
        cache = next((job.cache for job in plan.grid.jobs), None)
        self._queued = self._queued.write(self._queued.arrays, cache)
        # A victim may have been made, and left the queue, since the plan was made.
        wanted = [job for job in plan.victims if not is_prepared(job.cache, job.victim)]
        victims = [job for job in wanted if not self._is_there(VICTIMS, job.victim)]
        thefts = [job for job in plan.thieves if not self._is_there(THEFTS, job.key)]
        asked = len(victims) + len(thefts)
        try:
            self._submit(VICTIMS, victims)
            preparing = {job.victim for job in wanted}
            self._submit(THEFTS, [job for job in thefts if job.victim not in preparing])
            for victim in dict.fromkeys(job.victim for job in thefts if job.victim in preparing):
                self._submit(THEFTS, [job for job in thefts if job.victim == victim], victim)
        except JobError as error:
            taken = sum(len(array.jobs) for array in self._added)
            if taken:
                self._say(plan)
            raise JobError(
                f"Slurm took {taken} of {asked} jobs and refused others: {str(error).rstrip('.')}. The same command "
                "submits what is left."
            ) from error
        self._say(plan)

    @property
    def _added(self) -> list[Array]:
        return [array for array in self._queued.arrays if array.id not in self._before]

    def _place(self, stage: str, key: str) -> Place | None:
        """Where a job is in the queue now."""
        place = self._queued.places().get((stage, key))
        return place if place and place.id in self._there else None

    def _is_there(self, stage: str, key: str) -> bool:
        return self._place(stage, key) is not None

    def _submit(self, stage: str, jobs: Jobs, victim: str | None = None) -> None:
        """Submit jobs as one array; they begin once the job of ``victim``, if any, has ended well."""
        if not jobs:
            return
        after = self._place(VICTIMS, victim) if victim else None
        with stopping.postpone():  # what the cluster has taken is recorded
            if stage == VICTIMS:
                ids, keys = self._launches.leave_victims(jobs), [job.victim for job in jobs]
            else:
                ids = self._launches.leave_thieves(jobs, after.id if after else None)
                keys = [job.key for job in jobs]
            array = Array.of(stage, keys, ids, self._cluster, victim if after else None)
            self._queued = self._queued.write([*self._queued.arrays, array])
        self._there |= set(ids)
        stopping.check()

    def _say(self, plan: SweepPlan) -> None:
        """A line for each stage, and the commands to follow and to end it."""
        if not self._there:
            print(f"{self._folder.name}: nothing is left to do; fmsteal results {self._folder} shows the results.")
            return
        for stage in (VICTIMS, THEFTS):
            print(_describe(stage, self._added, self._count(plan, stage)))
        print(f"follow: fmsteal status {self._folder} --watch")
        print(f"end:    fmsteal cancel {self._folder}")

    def _count(self, plan: SweepPlan, stage: str) -> int:
        """How many of the plan's jobs were in the queue before."""
        added = {key for array in self._added for key in array.jobs if array.stage == stage}
        return sum(self._is_there(*name) for name in _names(plan) if name[0] == stage and name[1] not in added)


def _describe(stage: str, added: Iterable[Array], before: int) -> str:
    """``thefts: 6 jobs are submitted to Slurm (arrays 12, 13), 4 of them after their victim; 2 are queued already``."""
    arrays = [array for array in added if array.stage == stage]
    count = sum(len(array.jobs) for array in arrays)
    after = sum(len(array.jobs) for array in arrays if array.victim)
    parts = []
    if count:
        parts.append(f"{_count(count)} submitted to Slurm ({name_arrays(arrays)})")
        parts[-1] += f", {'each' if after == count else f'{after} of them'} after its victim" if after else ""
    if before or not count:
        parts.append(f"{_count(before)} in the queue already")
    return f"{stage}: {'; '.join(parts)}"


def _count(jobs: int) -> str:
    return "1 job is" if jobs == 1 else f"{jobs} jobs are"


def _require_known(queued: Queued) -> set[str]:
    """The ids of the sweep's jobs that are in the queue.

    Raises:
        ConfigError: the cluster that has them cannot be asked from here.
    """
    there = queued.ask()
    if there is None:
        last = queued.arrays[-1]
        raise ConfigError(
            f"{queued.folder} has jobs in the queue of the Slurm cluster {last.cluster}, which does not answer here. "
            f"Run this on one of its login nodes; if that cluster is gone, remove {SweepFolder(queued.folder).queued}."
        )
    return set(there)


def _names(plan: SweepPlan) -> list[tuple[str, str]]:
    """The jobs of a plan by stage and key."""
    return [(VICTIMS, job.victim) for job in plan.victims] + [(THEFTS, job.key) for job in plan.thieves]
