"""Everything that fmsteal uses of submitit, and changes inside it.

Written for submitit 1.5.0 to 1.5.4. `tests/sweep/test_on_submitit.py` checks it against the installed submitit, and
fails if that is another version.

- ``SlurmJob.watcher``: submitit gets the states of jobs from `sacct` alone, which small clusters often lack; there it
  waits forever for a killed job. Ours reads the queue.
- ``SlurmJob.results``: submitit raises at the first job that has failed, while others still run.
- ``SlurmExecutor._internal_process_submissions``: a signal after Slurm has accepted a job, but before submitit has
  registered it, would leave a job that nobody cancels.
- ``InfoWatcher._registered``: the jobs that this process has submitted, needed to cancel them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.utils import JobReturn
from submitit import AutoExecutor
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.slurm.slurm import SlurmExecutor, SlurmInfoWatcher, SlurmJob

from fmsteal.base import stopping
from fmsteal.base.errors import JobError
from fmsteal.base.on_hydra import make_return

SHARED = {  # options that submitit names alike for every cluster
    "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "stderr_to_stdout",
}  # fmt: skip
LOOK_SECONDS = 30  # between two polls of the queue
LATE_SECONDS = 15.0  # after a job's end, for its files to become visible on a network file system


class Queue(SlurmInfoWatcher):
    """The states of jobs according to the queue; a job that is not in it has ended."""

    def __init__(self) -> None:
        super().__init__(delay_s=LOOK_SECONDS)
        self.ended: dict[str, float] = {}

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "-h", "-r", "-o", "%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job, from the output of `squeue`."""
        lines = (string if isinstance(string, str) else string.decode()).splitlines()
        states = {job: {"State": state} for job, _, state in (line.partition("|") for line in lines)}
        for job in self._registered - states.keys():
            states[job] = {"State": "ENDED"}
            self.ended.setdefault(job, time.monotonic())
        return states

    def overdue(self, job: str) -> bool:
        """Whether a job ended too long ago for a result to appear."""
        return time.monotonic() - self.ended.get(job, time.monotonic()) > LATE_SECONDS


@functools.cache
def outlive_dead_jobs() -> None:
    """Make submitit recognize a dead job by the queue, and report it as failed without losing the others.

    Patches class attributes, which submitit's array jobs use.
    """
    watcher, finished = Queue(), SlurmJob.results
    job_class: Any = SlurmJob
    executor_class: Any = SlurmExecutor
    submit = executor_class._internal_process_submissions

    @functools.wraps(submit)
    def submitted(executor: Any, submissions: Any) -> Any:
        with stopping.postpone():  # a job that Slurm has accepted is registered, so it can be cancelled
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


def submit(
    call: Callable[..., Any], jobs: Sequence[Sequence[Any]], folder: str, options: Mapping[str, Any]
) -> list[SlurmJob[Any]]:
    """Submit one array whose jobs call ``call``, each with arguments of its own.

    Args:
        call: what a job calls; its ``checkpoint`` gives what the job calls after it was interrupted.
        jobs: each job's arguments.
        folder: where submitit keeps scripts and logs.
        options: of the jobs, by submitit's names, with ``max_num_timeout`` and ``python``.

    Raises:
        JobError: Slurm refused the array.
    """
    given = {name if name in SHARED else f"slurm_{name}": v for name, v in options.items() if v is not None}
    how = {name: given.pop(name) for name in ("slurm_max_num_timeout", "slurm_python") if name in given}
    executor = AutoExecutor(folder, cluster="slurm", **how)
    executor.update_parameters(**given)
    try:
        return list(executor.map_array(call, *zip(*jobs, strict=True)))
    except (FailedJobError, FailedSubmissionError) as error:
        said = [line for line in str(error).splitlines() if line.strip()] or ["sbatch failed"]
        raise JobError(said[-1].removeprefix("sbatch: error: ")) from error


def call_again(call: Callable[..., Any], *arguments: Any) -> DelayedSubmission:
    """What an interrupted job calls when it is started again."""
    return DelayedSubmission(call, *arguments)


def own_id() -> str:
    """The id of the Slurm job that this process is; for a job of an array, ``<array>_<place>``."""
    return str(JobEnvironment().job_id)


def find_arrays() -> set[str]:
    """The ids of the Slurm job arrays that this process has submitted."""
    watcher: Any = SlurmJob.watcher
    return {job.partition("_")[0] for job in watcher._registered}
