"""Asks Slurm's commands; they are on the PATH of a cluster's login and compute nodes alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ASK_SECONDS = 30.0  # for Slurm to answer


@dataclass(frozen=True)
class InQueue:
    """A job in Slurm's queue: its state (``PENDING``, ``RUNNING``, ...) and, while it waits, why."""

    state: str
    reason: str

    @property
    def pending(self) -> bool:
        """Whether it waits."""
        return self.state not in ("RUNNING", "COMPLETING", "STAGE_OUT", "STOPPED", "SUSPENDED")


def ask(*command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command, whatever its status, out of reach of the terminal's Ctrl-C.

    Raises:
        OSError: there is no such command.
        subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
    """
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, start_new_session=True)


def is_here() -> bool:
    """Whether Slurm's commands are on the PATH."""
    return all(shutil.which(name) for name in ("sbatch", "srun", "squeue"))


def read_queue(user: str) -> Mapping[str, InQueue] | None:
    """The jobs of ``user`` that wait or run, by id; a job of an array is ``<array>_<place>``. None: no answer."""
    said = _said("squeue", "-h", "-r", "-u", user, "-o", "%i|%T|%r")
    if said is None:
        return None
    rows = (line.split("|") for line in said.splitlines() if line.count("|") == 2)
    return {job: InQueue(state, reason) for job, state, reason in rows}


def name_cluster() -> str | None:
    """The cluster's name; None if Slurm does not answer."""
    lines = (_said("scontrol", "show", "config") or "").splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("ClusterName ")), None)


def show_state(job: str) -> str | None:
    """The state of a job that waits, runs or has lately ended; None if Slurm does not know it.

    Of an array that is named as a whole, the state of its last job.
    """
    said = (_said("scontrol", "--oneliner", "show", "job", job) or "").split()
    states = [word.partition("=")[2] for word in said if word.startswith("JobState=")]
    return states[-1] if states else None


def cancel(jobs: Sequence[str]) -> str:
    """Cancel jobs or whole arrays, by id; return what Slurm says against it, "" if nothing."""
    return ask("scancel", *jobs, timeout=ASK_SECONDS).stderr.strip()


def queue_again(job: str) -> str:
    """Put a running job back into the queue; return what Slurm says against it, "" if nothing."""
    return ask("scontrol", "requeue", job, timeout=ASK_SECONDS).stderr.strip()


def _said(*command: str) -> str | None:
    """What a command says; None if it is not there, fails, or takes too long."""
    try:
        done = ask(*command, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
