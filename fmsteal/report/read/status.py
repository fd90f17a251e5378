"""``fmsteal status``: what of a sweep is done, under way, failed, cut off or still to come. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.records.results import RUNNING, Entry, begun, planned, recorded
from fmsteal.report.read.progress import progress


@dataclass(frozen=True)
class Status:
    """A sweep at one moment.

    Attributes:
        folder: the sweep's.
        jobs: all that are known.
        plan: whether it is recorded which jobs there will be; if not, missing ones are not known.
    """

    folder: Path
    jobs: Sequence[Entry]
    plan: bool

    @classmethod
    def of(cls, folder: Path) -> Status:
        """Read the folder."""
        jobs = planned(folder)
        return cls(folder, begun(folder) if jobs is None else jobs, jobs is not None)

    def of_state(self, *states: str) -> list[Entry]:
        """The jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]

    @property
    def moving(self) -> bool:
        """Whether a job is under way."""
        return bool(self.of_state(RUNNING))


def error(job: Entry) -> str:
    """The last line of what a job raised, or what is wrong with its result."""
    if job.failure is None:
        return job.fault
    lines = [line.strip() for line in str(job.failure.get("error", "")).splitlines() if line.strip()]
    return lines[-1] if lines else "unknown"


def stage(job: Entry) -> str:
    """Where a job was when it ended: the stage that its record or the plan names, and what its files show."""
    known = (job.failure or {}).get("stage") or job.stage
    at = progress(job.folder).text
    return str(known) if known and at == "starting" else f"{known}, {at}" if known else at


def continuing(folder: Path) -> str:
    """The command that does what is left of a sweep; what is finished is skipped."""
    return str((recorded(folder) or {}).get("command") or "the sweep's own command, given again")
