"""Runs a sweep in launches: each distinct victim once, then thefts, then measurements of existing thefts.

What is done already is read from disk.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fmsteal.base import command_line, stopping
from fmsteal.base.errors import FmstealError
from fmsteal.base.lease import is_held, lease
from fmsteal.base.on_hydra import SharedLoader, error_of
from fmsteal.base.store import read_json, require_writable
from fmsteal.config.schema import Stage
from fmsteal.job.victims import is_prepared
from fmsteal.records import results
from fmsteal.records.folders import HYDRA, VICTIMS, JobFolder, SweepFolder, TheftFolder
from fmsteal.records.results import JobOnDisk
from fmsteal.sweep import frozen, launch_log, launchers, record
from fmsteal.sweep.evaluate import add_overrides
from fmsteal.sweep.grid import Grid, SweepJob, check_jobs, expand
from fmsteal.tracking.naming import find_varying, run_name

if TYPE_CHECKING:
    from fmsteal.report.show.live import StageJobs
    from fmsteal.sweep.estimate import Estimate

log = logging.getLogger(__name__)
WAITED = 2.0  # seconds between two checks of thefts that other processes work on


def run(
    arguments: Sequence[str],
    master: DictConfig,
    context: HydraContext,
    task: TaskFunction,
    mixed: bool = False,
    freeze: bool = True,
    of: str | None = None,
) -> None:
    """Compose and check every job, then run those that have no result.

    Args:
        arguments: the overrides, with the axes.
        master: the sweep's own config.
        context: Hydra's context; its loader is replaced by one that reads frozen configs, which launchers pass on.
        task: the function that runs a job.
        mixed: accept a folder whose sweep has other fixed settings.
        freeze: make the jobs run the code as it is now, whenever they start.
        of: a folder whose jobs are measured further, with the overrides in ``arguments``, instead of running a grid.

    Raises:
        CompactHydraException: a job is not valid, so that nothing was run; or jobs have no result.
        Stopped: the command was told to end. Its jobs have ended; those cut off can be continued later.
    """
    folder = Path(master.hydra.sweep.dir)
    place = SweepFolder(folder)
    loader = SharedLoader(context.config_loader.get_search_path())
    loader.open(master)
    began = time.monotonic()
    try:
        grid = _compose_grid(arguments, master, loader, mixed, of)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    plan = SweepPlan(grid, master.stage)
    done = sum(job.finished for job in grid.jobs)
    log.info("%d jobs are checked, in %.1f s; %d are finished already", len(grid.jobs), time.monotonic() - began, done)
    if master.dry_run:
        from fmsteal.sweep.plan import show_plan

        return show_plan(plan, folder, _estimate(plan, master), master.dry_run == "full")
    try:
        from fmsteal.sweep.available import require_data

        require_data([pickle.loads(job) for job in grid.unlike], master.stage)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    from fmsteal.report.show import live  # imported late: finding a misspelt option needs no NumPy

    context.config_loader = frozen.configs(loader, place.conf)
    sources = {s.provider: s.path for s in context.config_loader.get_sources() if s.scheme() == "file"}
    copy = frozen.copy_code(place.code) if freeze else None
    command = command_line.spell_continuing()
    try:
        with _held(place), frozen.import_from(copy) if copy else nullcontext():
            if of is None or place.record.is_file():  # single runs have no record
                record.write(folder, grid, command if of is None else None, sources, copy)
            launches = Launches(master, context, task, folder)
            with live.show_stage(plan.make_stage("victims", folder), master.quiet):
                launches.prepare_victims(plan.victims)
            with live.show_stage(plan.make_stage("thieves", folder), master.quiet):
                launches.run_thieves(plan.thefts)
                launches.run_thieves(plan.measured)
                launches.run_waiting(plan.thieves)
    finally:
        if stopping.was_told() is None:  # a sweep that was stopped only says how to continue
            from fmsteal.report.show.table import show_sweep

            show_sweep(results.read_sweep(folder), folder)
    _require_done(plan, launches)


def _compose_grid(
    arguments: Sequence[str], master: DictConfig, loader: SharedLoader, mixed: bool, of: str | None
) -> Grid:
    """Compose and check the jobs of a sweep, and check its folder; for the arguments see `run`.

    Raises:
        FmstealError: a job is not valid, or the folder cannot be used.
    """
    folder = Path(master.hydra.sweep.dir)
    require_writable(folder)
    record.refuse_earlier(folder)
    if of is None:
        grid = check_jobs(loader, master, expand(loader, arguments))
    else:
        grid = keep_stolen(check_jobs(loader, master, add_overrides(Path(of), arguments)))
    if not mixed:
        record.require_same(folder, grid)
    return grid


def _estimate(plan: SweepPlan, master: DictConfig) -> Estimate:
    """What a plan will take.

    Raises:
        CompactHydraException: the rate for it is none.
    """
    from fmsteal.sweep.estimate import estimate

    try:
        return estimate(plan, master)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error


@contextmanager
def _held(place: SweepFolder) -> Iterator[None]:
    """Hold a lease on the sweep: while one is held, `fmsteal status --watch` waits for jobs that have not begun."""
    for left in place.commands():
        if not is_held(left):
            Path(f"{left}.lease").unlink(missing_ok=True)
    with lease(place.command(secrets.token_hex(4)), "this sweep"):
        yield


def keep_stolen(grid: Grid) -> Grid:
    """Keep the jobs of a grid whose theft is sealed, which can be measured without stealing."""
    able = [job for job in grid.jobs if job.sealed]
    if left := len(grid.jobs) - len(able):
        log.warning("%d jobs are left out: their theft is not finished", left)
    return replace(grid, jobs=able)


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


class Launches:
    """The launches of one sweep, through the chosen launcher."""

    def __init__(self, master: DictConfig, context: HydraContext, task: TaskFunction, folder: Path) -> None:
        self._chosen = master.hydra.launcher
        self._launcher = Plugins.instance().instantiate_launcher(context, task, master)
        self._folder = folder
        self._launched = 0
        self.failed_victims: set[str] = set()
        self.error: Exception | None = None

    def prepare_victims(self, jobs: Sequence[SweepJob]) -> None:
        """Prepare the victim of each job."""
        folders = [f"{VICTIMS}/{job.victim}" for job in jobs]
        self._launch([[*job.overrides, "stage=victims"] for job in jobs], folders)
        raised = [self._job(folder).failure.is_file() for folder in folders]
        self.failed_victims = {job.victim for job, failed in zip(jobs, raised, strict=True) if failed}

    def run_thieves(self, jobs: Sequence[SweepJob]) -> None:
        """Run the jobs, except those whose victim has just failed.

        Such thieves would raise the same error, one by one, each occupying a device; they are left until the sweep is
        run again. If a victim's job was killed instead, the first thief continues with the victim.
        """
        for job in jobs:  # marks of an earlier launch do not apply to this one
            JobFolder(job.folder).waiting.unlink(missing_ok=True)
        able = [job for job in jobs if job.victim not in self.failed_victims]
        if len(able) < len(jobs):
            log.warning("%d jobs are left out: their victim failed", len(jobs) - len(able))
        self._launch([list(job.overrides) for job in able], [job.key for job in able])

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

    def _launch(self, jobs: Sequence[Sequence[str]], folders: Sequence[str]) -> None:
        """Launch jobs and wait for them; if the launcher gives up midway, nothing on disk is lost."""
        if not jobs:
            return
        try:
            shortly = launch_log.shorten(len(jobs), " ".join(jobs[0]))
            with shortly, stopping.heed(), launchers.cancel_when_stopped(self._chosen):
                done = self._launcher.launch(jobs, initial_job_idx=self._launched)
            for name, job in zip(folders, done, strict=False):
                if job.status is JobStatus.FAILED and not self._job(name).failure.is_file():
                    log.error("%s: %s", name, error_of(job))  # the job could not report it itself
        except Exception as error:
            if not any((self._folder / name / HYDRA).is_dir() for name in folders):  # none has begun
                raise
            log.warning("The launcher gave up (%s: %s); going on with what is on disk.", type(error).__name__, error)
            self.error = error
        self._launched += len(jobs)


def _require_done(plan: SweepPlan, launches: Launches) -> None:
    if plan.stage is Stage.victims:
        asked, what = len(plan.victims), "victims are not prepared"
        missing = sum(not is_prepared(job.cache, job.victim) for job in plan.victims)
    else:
        asked, what = len(plan.grid.jobs), "jobs have no result"
        missing = sum(not _has_result(job) for job in plan.thieves)
    if missing:
        gave_up = f" The launcher gave up: {launches.error}." if launches.error else ""
        raise CompactHydraException(f"fmsteal: {missing} of {asked} {what}.{gave_up}")


def _has_result(job: SweepJob) -> bool:
    files = JobFolder(job.folder)
    result = read_json(files.result)
    return isinstance(result, dict) and result.get("job_key") == job.key and not files.failure.is_file()


def _is_busy(job: SweepJob) -> bool:
    waits = read_json(JobFolder(job.folder).waiting)
    place = waits.get("theft") if isinstance(waits, dict) else None
    return isinstance(place, str) and is_held(TheftFolder(job.folder / place).lease)
