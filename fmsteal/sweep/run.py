"""A sweep in launches: each distinct victim once, then the thefts, then what is still to be measured of others.

What is done is read from disk.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import time
from collections.abc import Iterator, Sequence
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
from fmsteal.base.lease import held, lease
from fmsteal.base.on_hydra import SharedLoader, error_of
from fmsteal.base.store import read_json, require_writable
from fmsteal.config.schema import Stage
from fmsteal.job.victims import prepared
from fmsteal.records import results
from fmsteal.records.folders import HYDRA, VICTIMS, JobFolder, SweepFolder, TheftFolder
from fmsteal.records.results import Entry
from fmsteal.sweep import frozen, launchers, record
from fmsteal.sweep.evaluate import measured_again
from fmsteal.sweep.grid import Cell, Grid, checked, expanded
from fmsteal.tracking.naming import run_name, varying

if TYPE_CHECKING:
    from fmsteal.report.show.live import Stage as Shown

log = logging.getLogger(__name__)
WAITED = 2.0  # seconds between two looks at thefts that others work on


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
        context: Hydra's; its loader is replaced by one that reads frozen configs, which is what launchers ship.
        task: what runs a job.
        mixed: take a folder whose sweep has other fixed settings.
        freeze: let the jobs run the code as it is now, whenever they start.
        of: a folder whose jobs are measured further, as ``arguments`` say, instead of a grid of them.

    Raises:
        CompactHydraException: nothing was run, since something is wrong with a job; or jobs are without a result.
        Stopped: the command was told to end. Its jobs have ended; those under way are cut off, and go on another time.
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
    plan = Plan(grid, master.stage)
    done = sum(cell.finished for cell in grid.cells)
    log.info("%d jobs are checked, in %.1f s; %d are finished already", len(grid.cells), time.monotonic() - began, done)
    if master.dry_run:
        from fmsteal.sweep.plan import show_plan

        return show_plan(plan, folder)
    try:
        from fmsteal.sweep.available import require_data

        require_data([pickle.loads(job) for job in grid.unlike], master.stage)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    from fmsteal.report.show import live  # here: NumPy is not needed to find a misspelt option

    context.config_loader = frozen.configs(loader, place.conf)
    sources = {s.provider: s.path for s in context.config_loader.get_sources() if s.scheme() == "file"}
    copy = frozen.code(place.code) if freeze else None
    command = command_line.spell_continuing()
    try:
        with _held(place), frozen.imported_from(copy) if copy else nullcontext():
            if of is None or place.record.is_file():  # single runs have no record
                record.write(folder, grid, command if of is None else None, sources, copy)
            launches = Launches(master, context, task, folder)
            with live.shown(plan.shown("victims", folder), master.quiet):
                launches.victims(plan.victims)
            with live.shown(plan.shown("thieves", folder), master.quiet):
                launches.thieves(plan.thefts)
                launches.thieves(plan.measured)
                launches.waiting(plan.thieves)
    finally:
        if stopping.told() is None:  # who stops a sweep is told how to go on, and no more
            from fmsteal.report.show.table import show_sweep

            show_sweep(results.of_sweep(folder), folder)
    _require_done(plan, launches)


def _compose_grid(
    arguments: Sequence[str], master: DictConfig, loader: SharedLoader, mixed: bool, of: str | None
) -> Grid:
    """The jobs of a sweep, checked, in a folder that may hold them; for the arguments see `run`.

    Raises:
        FmstealError: something is wrong with a job, or with the folder.
    """
    folder = Path(master.hydra.sweep.dir)
    require_writable(folder)
    record.refuse_earlier(folder)
    if of is None:
        grid = checked(loader, master, expanded(loader, arguments))
    else:
        grid = only_stolen(checked(loader, master, measured_again(Path(of), arguments)))
    if not mixed:
        record.require_same(folder, grid)
    return grid


@contextmanager
def _held(place: SweepFolder) -> Iterator[None]:
    """Show that a command runs the sweep: `fmsteal status --watch` waits for jobs that are not begun while one does."""
    for left in place.commands():
        if not held(left):
            Path(f"{left}.lease").unlink(missing_ok=True)
    with lease(place.command(secrets.token_hex(4)), "this sweep"):
        yield


def only_stolen(grid: Grid) -> Grid:
    """The jobs of a grid whose theft is sealed: those that can be measured without stealing."""
    able = [cell for cell in grid.cells if cell.sealed]
    if left := len(grid.cells) - len(able):
        log.warning("%d jobs are left out: their theft is not finished", left)
    return replace(grid, cells=able)


class Plan:
    """What of a grid is run.

    Attributes:
        victims: of those that any job without a result needs, the first job of each that is not in the store.
        thefts: the jobs that have to steal.
        measured: those whose theft is sealed already, by another sweep or before: they only measure what is missing.
    """

    def __init__(self, grid: Grid, stage: Stage) -> None:
        self.grid, self.stage = grid, stage
        needed = [cell for cell in grid.cells if not cell.finished]
        first_of = {cell.victim: cell for cell in reversed(needed)}  # the first job of each victim makes it
        self.ready = {cell.victim for cell in grid.cells if cell.victim_ready}
        wanted = [cell for cell in needed if first_of[cell.victim] is cell and cell.victim not in self.ready]
        self.victims: Sequence[Cell] = wanted if stage is not Stage.thieves else []
        thieves = needed if stage is not Stage.victims else []
        self.thefts: Sequence[Cell] = [cell for cell in thieves if not cell.sealed]
        self.measured: Sequence[Cell] = [cell for cell in thieves if cell.sealed]

    @property
    def thieves(self) -> Sequence[Cell]:
        """All jobs that are run for a result."""
        return [*self.thefts, *self.measured]

    def shown(self, name: Literal["victims", "thieves"], folder: Path) -> Shown:
        """A launch as it is shown while it is under way."""
        from fmsteal.report.show import live

        place = SweepFolder(folder)
        if name == "victims":
            keys = {cell.victim: cell for cell in self.victims}
            entries = {key: Entry(key, place.victim(key).path, results.MISSING, "victim") for key in keys}
            return live.Stage(name, entries, {}, prepared=lambda key: prepared(keys[key].cache, key))
        entries = {c.key: Entry(c.key, c.folder, results.MISSING, "thief", c.overrides) for c in self.thieves}
        differing = varying([{"axis": cell.axis, "overrides": cell.overrides} for cell in self.grid.cells])
        names = {cell.key: run_name(cell.axis, cell.overrides, differing, "thief") for cell in self.thieves}
        return live.Stage(name, entries, names, before=sum(cell.finished for cell in self.grid.cells))


class Launches:
    """The launches of one sweep, through the launcher that is chosen."""

    def __init__(self, master: DictConfig, context: HydraContext, task: TaskFunction, folder: Path) -> None:
        self._chosen = master.hydra.launcher
        self._launcher = Plugins.instance().instantiate_launcher(context, task, master)
        self._folder = folder
        self._launched = 0
        self.failed_victims: set[str] = set()
        self.error: Exception | None = None

    def victims(self, cells: Sequence[Cell]) -> None:
        """Prepare the victim of each cell."""
        folders = [f"{VICTIMS}/{cell.victim}" for cell in cells]
        self._launch([[*cell.overrides, "stage=victims"] for cell in cells], folders)
        raised = [self._job(folder).failure.is_file() for folder in folders]
        self.failed_victims = {cell.victim for cell, failed in zip(cells, raised, strict=True) if failed}

    def thieves(self, cells: Sequence[Cell]) -> None:
        """Run the jobs, but for those whose victim has just failed.

        What a victim raised its thieves would raise too, one after the other, each with a device of its own: they wait
        for the sweep to be run again. Where a victim's job was killed instead, the first thief goes on with it.
        """
        for cell in cells:  # what an earlier launch found says nothing about this one
            JobFolder(cell.folder).waiting.unlink(missing_ok=True)
        able = [cell for cell in cells if cell.victim not in self.failed_victims]
        if len(able) < len(cells):
            log.warning("%d jobs are left out: their victim failed", len(cells) - len(able))
        self._launch([list(cell.overrides) for cell in able], [cell.key for cell in able])

    def waiting(self, cells: Sequence[Cell]) -> None:
        """Run jobs again that ended since another process worked on their theft, as soon as that one is through."""
        told = 0
        while left := [cell for cell in cells if JobFolder(cell.folder).waiting.is_file()]:
            free = [cell for cell in left if not _is_busy(cell)]
            if free:
                self.thieves(free)
                continue
            if len(left) != told:
                log.info("%d jobs wait for thefts that other processes work on", len(left))
                told = len(left)
            time.sleep(WAITED)

    def _job(self, name: str) -> JobFolder:
        return JobFolder(self._folder / name)

    def _launch(self, jobs: Sequence[Sequence[str]], folders: Sequence[str]) -> None:
        """Launch jobs and wait for them; a launcher that gives up in the middle loses nothing that is on disk."""
        if not jobs:
            return
        try:
            with stopping.heeded(), launchers.stoppable(self._chosen):
                done = self._launcher.launch(jobs, initial_job_idx=self._launched)
            for name, job in zip(folders, done, strict=False):
                if job.status is JobStatus.FAILED and not self._job(name).failure.is_file():
                    log.error("%s: %s", name, error_of(job))  # it could not say so itself
        except Exception as error:
            if not any((self._folder / name / HYDRA).is_dir() for name in folders):  # not one was begun
                raise
            log.warning("The launcher gave up (%s: %s); going on with what is on disk.", type(error).__name__, error)
            self.error = error
        self._launched += len(jobs)


def _require_done(plan: Plan, launches: Launches) -> None:
    if plan.stage is Stage.victims:
        asked, what = len(plan.victims), "victims are not prepared"
        missing = sum(not prepared(cell.cache, cell.victim) for cell in plan.victims)
    else:
        asked, what = len(plan.grid.cells), "jobs have no result"
        missing = sum(not _has_result(cell) for cell in plan.thieves)
    if missing:
        gave_up = f" The launcher gave up: {launches.error}." if launches.error else ""
        raise CompactHydraException(f"fmsteal: {missing} of {asked} {what}.{gave_up}")


def _has_result(cell: Cell) -> bool:
    job = JobFolder(cell.folder)
    result = read_json(job.result)
    return isinstance(result, dict) and result.get("job_key") == cell.key and not job.failure.is_file()


def _is_busy(cell: Cell) -> bool:
    waits = read_json(JobFolder(cell.folder).waiting)
    place = waits.get("theft") if isinstance(waits, dict) else None
    return isinstance(place, str) and held(TheftFolder(cell.folder / place).lease)
