"""``queued.json``: the jobs of a sweep that were left in Slurm's queue, with nobody waiting for them.

It says which Slurm job is which of the sweep's, so that any process that sees the folder can follow them, end them, or
avoid submitting them twice.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fmsteal.base import slurm
from fmsteal.base.slurm import InQueue
from fmsteal.base.store import explain_errors, read_json, write_json
from fmsteal.records.folders import SweepFolder

VICTIMS, THEFTS = STAGES = "victims", "thefts"  # as the launcher names them
NAMED = 8  # ids of arrays in a line


@dataclass(frozen=True)
class Array:
    """One submission.

    Attributes:
        id: Slurm's id of the array, or of its only job.
        stage: one of `STAGES`.
        jobs: the id of each job by its key in the sweep: its victim's if ``stage`` is `VICTIMS`, else its own.
        cluster: the name of the cluster.
        user: who submitted it.
        victim: the key of the victim that the jobs wait for; None if they wait for none.
        cancelled: whether `fmsteal cancel` has ended it.
        submitted: when, as of `time.time`.
    """

    id: str
    stage: str
    jobs: dict[str, str]
    cluster: str | None
    user: str
    victim: str | None = None
    cancelled: bool = False
    submitted: float = 0.0

    @classmethod
    def of(cls, stage: str, keys: Sequence[str], ids: Sequence[str], cluster: str | None, victim: str | None) -> Array:
        """The array of jobs that this process has just submitted; ``ids`` are those of the jobs ``keys``."""
        jobs = dict(zip(keys, ids, strict=True))
        return cls(ids[0].partition("_")[0], stage, jobs, cluster, getpass.getuser(), victim, submitted=time.time())


@dataclass(frozen=True)
class Place:
    """The latest submission of one of a sweep's jobs: its array, and its own id."""

    array: Array
    id: str


@dataclass(frozen=True)
class Queued:
    """What was left in the queue, oldest first.

    Attributes:
        folder: the sweep's folder.
        arrays: all that were submitted since the sweep began.
        cache: where its victims are kept.
    """

    folder: Path
    arrays: Sequence[Array] = ()
    cache: Path | None = None

    @classmethod
    def read(cls, folder: Path) -> Queued:
        """Read a sweep's folder; without a record, or with a damaged one, nothing is queued."""
        try:
            found = read_json(SweepFolder(folder).queued)
            arrays = [Array(**array) for array in found["arrays"]]
            return cls(folder, arrays, Path(found["cache"]) if found.get("cache") else None)
        except (OSError, TypeError, KeyError, AttributeError):
            return cls(folder)

    def write(self, arrays: Sequence[Array], cache: Path | None = None) -> Queued:
        """Record other arrays in place of these."""
        value: dict[str, Any] = {"cache": str((cache or self.cache or Path("cache")).absolute())}
        with explain_errors(self.folder):
            write_json(SweepFolder(self.folder).queued, {**value, "arrays": [asdict(array) for array in arrays]})
        return Queued.read(self.folder)

    def places(self) -> dict[tuple[str, str], Place]:
        """The latest submission of each job, by stage and key."""
        return {(a.stage, key): Place(a, job) for a in self.arrays for key, job in a.jobs.items()}

    def ask(self) -> Mapping[str, InQueue] | None:
        """What the cluster's queue says of these jobs, by id; None if it cannot be asked from here."""
        if not self.arrays:
            return {}
        if slurm.name_cluster() != self.arrays[-1].cluster:
            return None
        answers = [slurm.read_queue(user) for user in sorted({array.user for array in self.arrays})]
        if any(answer is None for answer in answers):
            return None
        known = {job for array in self.arrays for job in array.jobs.values()}
        return {job: at for answer in answers if answer for job, at in answer.items() if job in known}


def name_arrays(arrays: Iterable[Array]) -> str:
    """``array 12``, or ``arrays 12, 13``; of many only the first ids."""
    found = list(dict.fromkeys(array.id for array in arrays))
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{'array' if len(found) == 1 else 'arrays'} {', '.join(found[:NAMED])}{more}"
