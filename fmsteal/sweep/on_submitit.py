"""All that fmsteal takes from inside submitit, or changes there.

Written for submitit 1.5.0 to 1.5.4. `tests/sweep/test_on_submitit.py` holds it against the submitit that is installed,
and fails where that is another one.

- ``SlurmJob.watcher``: submitit asks `sacct` alone how jobs are, which small clusters often lack: there it waits for a
  killed job for ever. Ours asks the queue.
- ``SlurmJob.results``: submitit raises at the first job that has failed, while others still run.
- ``SlurmExecutor._internal_process_submissions``: a signal between Slurm's taking a job and submitit's noting it would
  leave a job that nobody cancels.
- ``InfoWatcher._registered``: the jobs that this process has submitted, to cancel them.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from hydra.core.utils import JobReturn
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.slurm.slurm import SlurmExecutor, SlurmInfoWatcher, SlurmJob

from fmsteal.base import stopping
from fmsteal.base.on_hydra import make_return

LOOK_SECONDS = 30  # between two looks at the queue
LATE_SECONDS = 15.0  # how much later than the job's end its files may be seen, on a network file system


class Queue(SlurmInfoWatcher):
    """The states of the jobs that are in the queue; those that are not have ended."""

    def __init__(self) -> None:
        super().__init__(delay_s=LOOK_SECONDS)
        self.ended: dict[str, float] = {}

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "-h", "-r", "-o", "%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job, from what `squeue` says."""
        lines = (string if isinstance(string, str) else string.decode()).splitlines()
        states = {job: {"State": state} for job, _, state in (line.partition("|") for line in lines)}
        for job in self._registered - states.keys():
            states[job] = {"State": "ENDED"}
            self.ended.setdefault(job, time.monotonic())
        return states

    def overdue(self, job: str) -> bool:
        """Whether nothing more can come of a job."""
        return time.monotonic() - self.ended.get(job, time.monotonic()) > LATE_SECONDS


@functools.cache
def outlive_dead_jobs() -> None:
    """Teach submitit to tell a dead job by the queue, and to report it as failed when the others are finished.

    These are the class attributes that its array jobs use.
    """
    watcher, finished = Queue(), SlurmJob.results
    job_class: Any = SlurmJob
    executor_class: Any = SlurmExecutor
    submit = executor_class._internal_process_submissions

    @functools.wraps(submit)
    def submitted(executor: Any, submissions: Any) -> Any:
        with stopping.postpone():  # a job that Slurm has taken is known here: it can be cancelled
            return submit(executor, submissions)

    @functools.wraps(finished)
    def results(job: Any) -> list[JobReturn]:
        job.wait()
        try:
            while not job.paths.result_pickle.exists():
                if watcher.overdue(job.job_id):
                    raise UncompletedJobError(f"Slurm job {job.job_id} ended without a result: {job.paths.stdout}")
                time.sleep(0.5)
            return finished(job)
        except (UncompletedJobError, FailedJobError) as error:
            return [make_return(error)]

    job_class.watcher, job_class.results = watcher, results
    executor_class._internal_process_submissions = submitted


def find_arrays() -> set[str]:
    """The Slurm arrays that this process has submitted jobs in."""
    watcher: Any = SlurmJob.watcher
    return {job.partition("_")[0] for job in watcher._registered}
