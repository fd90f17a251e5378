"""``fmsteal status``: which jobs of a sweep are done, under way, failed, cut off or still to come. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fmsteal.records.results import RUNNING, JobOnDisk, list_begun, list_planned, read_plan
from fmsteal.report.read.progress import read_progress
from fmsteal.report.read.queue import QueueWatch, SweepQueue, add_queue


@dataclass(frozen=True)
class Status:
    """A sweep at one moment.

    Attributes:
        folder: the sweep's folder.
        jobs: all known jobs.
        plan: whether the sweep's plan is recorded; without it, missing jobs are not known.
        queue: what the cluster says of the jobs that were left in its queue.
    """

    folder: Path
    jobs: Sequence[JobOnDisk]
    plan: bool
    queue: SweepQueue = field(default_factory=SweepQueue)

    @classmethod
    def of(cls, folder: Path, asked: QueueWatch | None = None) -> Status:
        """Read a sweep's folder, and ask the cluster's queue; ``asked`` keeps the queue's answer for a while."""
        jobs, queue = list_planned(folder), (asked or QueueWatch(folder)).look()
        known = list_begun(folder) if jobs is None else add_queue(jobs, queue)
        return cls(folder, known, jobs is not None, queue)

    def of_state(self, *states: str) -> list[JobOnDisk]:
        """The jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]

    @property
    def moving(self) -> bool:
        """Whether a job is under way, here or in a cluster's queue."""
        return bool(self.of_state(RUNNING)) or bool(self.queue.there)


def describe_error(job: JobOnDisk) -> str:
    """The last line of the error that a job raised, or what is wrong with its result."""
    if job.failure is None:
        return job.fault
    lines = [line.strip() for line in str(job.failure.get("error", "")).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown"


def describe_stage(job: JobOnDisk) -> str:
    """Where a job was when it ended: the stage named by its failure record or the plan, and its progress."""
    known = (job.failure or {}).get("stage") or job.stage
    at = read_progress(job.folder).text
    return str(known) if known and at == "starting" else f"{known}, {at}" if known else at


def continue_command(folder: Path) -> str:
    """The command that runs the rest of a sweep, skipping finished jobs."""
    return str((read_plan(folder) or {}).get("command") or "the sweep's own command, given again")
