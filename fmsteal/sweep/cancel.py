"""``fmsteal cancel``: ends the jobs that a sweep has left in a cluster's queue. No torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fmsteal.base import slurm
from fmsteal.base.errors import FmstealError, JobError
from fmsteal.base.lease import is_held
from fmsteal.records.folders import SweepFolder
from fmsteal.records.queued import Queued, name_arrays
from fmsteal.report.read import tidy
from fmsteal.report.read.status import continue_command

TEXT = """\
End the jobs that a sweep has left in Slurm's queue (hydra.launcher.wait=false): those that wait, and those that run.
What is finished stays, and what was begun goes on where it was when the sweep's command is given again."""


def main(words: Sequence[str]) -> None:
    """Cancel what is in the queue, and say what that was."""
    parser = argparse.ArgumentParser(
        prog="fmsteal cancel", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="a sweep's folder: outputs/sweeps/<sweep_id>")
    folder = parser.parse_args(list(words[1:])).dir
    try:
        tidy.require_jobs(folder)
        print(cancel(folder))
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def cancel(folder: Path) -> str:
    """Cancel the jobs of a sweep that are in the queue; return what was done, in words.

    Raises:
        JobError: the cluster cannot be asked from here, or does not cancel them.
    """
    queued = Queued.read(folder)
    there = queued.ask()
    if there is None:
        raise JobError(
            f"{folder} has jobs in the queue of the Slurm cluster {queued.arrays[-1].cluster}, which does not answer "
            "here: run this on one of its login nodes."
        )
    if not there:
        return f"nothing to cancel: no job of {folder} is in a queue.{_running_command(folder)}"
    arrays = [array for array in queued.arrays if there.keys() & set(array.jobs.values())]
    if refused := slurm.cancel([array.id for array in arrays]):
        raise JobError(f"Slurm does not cancel the jobs of {folder}: {refused}")
    ids = {array.id for array in arrays}
    queued.write([replace(array, cancelled=True) if array.id in ids else array for array in queued.arrays])
    running = sum(not job.pending for job in there.values())
    ending = f"; Slurm ends the {running} that run within its KillWait" if running else ""
    return f"cancelled {len(there)} jobs ({name_arrays(arrays)}){ending}\ncontinue with: {continue_command(folder)}"


def _running_command(folder: Path) -> str:
    """What to do about a command that runs the sweep; "" if none does."""
    if any(map(is_held, SweepFolder(folder).commands())):
        return (
            " A command runs the sweep: Ctrl-C or SIGTERM there ends it, with its jobs. If `ray job submit` left it, "
            "`ray job stop ID` does."
        )
    return ""
