"""The launches of one sweep, through the chosen launcher."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from fmsteal.base import stopping
from fmsteal.base.lease import is_held
from fmsteal.base.on_hydra import error_of
from fmsteal.base.store import read_json
from fmsteal.records import results
from fmsteal.records.folders import HYDRA, VICTIMS, JobFolder, TheftFolder
from fmsteal.sweep import launch_log, launchers
from fmsteal.sweep.grid import SweepJob
from fmsteal.sweep.stages import SweepPlan

log = logging.getLogger(__name__)
WAITED = 2.0  # seconds between two checks of thefts that other processes work on


class Launches:
    """The launches of one sweep, through the chosen launcher, with its options for each stage."""

    def __init__(self, master: DictConfig, context: HydraContext, task: TaskFunction, folder: Path) -> None:
        self._master, self._context, self._task = master, context, task
        self._folder = folder
        self._launched = 0
        self.failed_victims: set[str] = set()
        self.error: Exception | None = None

    def run(self, plan: SweepPlan, quiet: bool) -> None:
        """Run what a plan says, stage by stage, under a display of it unless ``quiet``."""
        from fmsteal.report.show import live  # imported late: finding a misspelt option needs no NumPy

        with live.show_stage(plan.make_stage("victims", self._folder), quiet):
            self.prepare_victims(plan.victims)
        with live.show_stage(plan.make_stage("thieves", self._folder), quiet):
            self.run_thieves(plan.thefts)
            self.run_thieves(plan.measured)
            self.run_waiting(plan.thieves)

    def prepare_victims(self, jobs: Sequence[SweepJob]) -> None:
        """Prepare the victim of each job."""
        folders = [f"{VICTIMS}/{job.victim}" for job in jobs]
        self._launch("victims", [_spell_victim(job) for job in jobs], folders)
        raised = [self._job(folder).failure.is_file() for folder in folders]
        self.failed_victims = {job.victim for job, failed in zip(jobs, raised, strict=True) if failed}

    def run_thieves(self, jobs: Sequence[SweepJob]) -> None:
        """Run the jobs, except those whose victim has just failed.

        Such thieves would raise the same error, one by one, each occupying a device; they are left until the sweep is
        run again. If a victim's job was killed instead, the first thief continues with the victim.
        """
        _clear_marks(jobs)
        able = [job for job in jobs if job.victim not in self.failed_victims]
        if len(able) < len(jobs):
            log.warning("%d jobs are left out: their victim failed", len(jobs) - len(able))
        self._launch("thefts", [list(job.overrides) for job in able], [job.key for job in able])

    def run_waiting(self, jobs: Sequence[SweepJob]) -> None:
        """Rerun jobs that ended because another process worked on their theft, as soon as that process has finished."""
        told = 0
        while left := [job for job in jobs if JobFolder(job.folder).waiting.is_file()]:
            free = [job for job in left if not _is_busy(job)]
            if free:
                self.run_thieves(free)
                continue
            if len(left) != told:
                log.info("%d jobs wait for thefts that other processes work on", len(left))
                told = len(left)
            time.sleep(WAITED)

    def _job(self, name: str) -> JobFolder:
        return JobFolder(self._folder / name)

    def leave_victims(self, jobs: Sequence[SweepJob]) -> Sequence[str]:
        """Leave the jobs that prepare the victim of each job in the launcher's queue; return the id of each."""
        return self._leave("victims", [_spell_victim(job) for job in jobs])

    def leave_thieves(self, jobs: Sequence[SweepJob], after: str | None) -> Sequence[str]:
        """Leave the jobs in the launcher's queue, until the job ``after``, if any, has ended well; return their ids."""
        _clear_marks(jobs)
        return self._leave("thefts", [list(job.overrides) for job in jobs], after)

    def _leave(self, stage: str, jobs: Sequence[Sequence[str]], after: str | None = None) -> Sequence[str]:
        launcher: Any = self._make_launcher(stage)
        ids: Sequence[str] = launcher.leave(jobs, initial_job_idx=self._launched, after=after)
        self._launched += len(jobs)
        return ids

    def _make_launcher(self, stage: str) -> Launcher:
        """The launcher for a stage, one of `launchers.STAGES`."""
        master = copy.deepcopy(self._master)
        with read_write(master), open_dict(master):
            master.hydra.launcher = launchers.of_stage(self._master.hydra.launcher, stage)
        return Plugins.instance().instantiate_launcher(self._context, self._task, master)

    def _launch(self, stage: str, jobs: Sequence[Sequence[str]], folders: Sequence[str]) -> None:
        """Launch jobs and wait for them; if the launcher gives up midway, nothing on disk is lost."""
        if not jobs:
            return
        try:
            shortly = launch_log.shorten(len(jobs), " ".join(jobs[0]))
            with shortly, stopping.heed(), launchers.cancel_when_stopped(self._master.hydra.launcher):
                done = self._make_launcher(stage).launch(jobs, initial_job_idx=self._launched)
            for name, job in zip(folders, done, strict=False):
                if job.status is JobStatus.FAILED and not self._job(name).failure.is_file():
                    log.error("%s: %s", name, error_of(job))  # the job could not report it itself
        except Exception as error:
            if not any((self._folder / name / HYDRA).is_dir() for name in folders):  # none has begun
                raise
            log.warning("The launcher gave up (%s: %s); going on with what is on disk.", type(error).__name__, error)
            self.error = error
        self._launched += len(jobs)


def read_result(job: SweepJob) -> results.Result | None:
    """The result of a job that was run; None if it has failed, or has no result of its own."""
    files = JobFolder(job.folder)
    result = read_json(files.result)
    own = isinstance(result, dict) and result.get("job_key") == job.key and not files.failure.is_file()
    return result if own else None


def _spell_victim(job: SweepJob) -> list[str]:
    """The overrides of the job that prepares a job's victim."""
    return [*job.overrides, "stage=victims"]


def _clear_marks(jobs: Iterable[SweepJob]) -> None:
    """Remove the marks of jobs that waited for a theft: those of an earlier launch do not apply to the next."""
    for job in jobs:
        JobFolder(job.folder).waiting.unlink(missing_ok=True)


def _is_busy(job: SweepJob) -> bool:
    waits = read_json(JobFolder(job.folder).waiting)
    place = waits.get("theft") if isinstance(waits, dict) else None
    return isinstance(place, str) and is_held(TheftFolder(job.folder / place).lease)
