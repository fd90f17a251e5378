"""A sweep in two launches: each distinct victim once, then the thieves. What is done is read from disk."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fmsteal import results
from fmsteal.errors import FmstealError
from fmsteal.results import Entry
from fmsteal.schema import Stage
from fmsteal.store import read_json, require_writable
from fmsteal.sweep import frozen, record
from fmsteal.sweep.grid import Cell, Grid, checked
from fmsteal.sweep.loader import SharedLoader
from fmsteal.sweep.sharing import Shelf, take_over
from fmsteal.sweep.victims import prepared
from fmsteal.tracking.naming import run_name, varying

if TYPE_CHECKING:
    from fmsteal.report.live import Stage as Shown

log = logging.getLogger(__name__)
CONF = ".conf"  # of a sweep: the configs its jobs are composed from
CODE = ".code"  # and the code they run


def run(
    arguments: Sequence[str],
    master: DictConfig,
    context: HydraContext,
    task: TaskFunction,
    mixed: bool = False,
    share: bool = False,
    freeze: bool = True,
) -> None:
    """Compose and check every job, then run those that have no result.

    Args:
        arguments: the overrides, with the axes.
        master: the sweep's own config.
        context: Hydra's; its loader is replaced by one that reads frozen configs, which is what launchers ship.
        task: what runs a job.
        mixed: take a folder whose sweep has other fixed settings.
        share: take over what other sweeps have of the jobs.
        freeze: let the jobs run the code as it is now, whenever they start.

    Raises:
        CompactHydraException: nothing was run, since something is wrong with a job; or jobs are without a result.
    """
    folder = Path(master.hydra.sweep.dir)
    loader = SharedLoader(context.config_loader.get_search_path())
    loader.open(master)
    began = time.monotonic()
    try:
        require_writable(folder)
        shelf = Shelf(Path(master.output), folder) if share else None
        grid = checked(loader, master, arguments, shelf)
        if not mixed:
            record.require_same(folder, grid)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    plan = Plan(grid, master.stage)
    done = sum(cell.finished for cell in grid.cells)
    log.info("%d jobs are checked, in %.1f s; %d are finished already", len(grid.cells), time.monotonic() - began, done)
    if master.dry_run:
        from fmsteal.report.plan import show_plan

        return show_plan(plan, folder)
    from fmsteal.report import live  # here: NumPy is not needed to find a misspelt option

    context.config_loader = loader.frozen(folder / CONF)
    sources = {s.provider: s.path for s in context.config_loader.get_sources() if s.scheme() == "file"}
    words = [word for word in sys.argv[1:] if not word.startswith(("force=", "quiet="))]  # to continue is not to redo
    plan = Plan(taken_over(grid, master.sweep_id), master.stage)
    copy = frozen.code(folder / CODE) if freeze else None
    record.write(folder, grid, shlex.join(["fmsteal", *words]), sources, copy)
    try:
        launches = Launches(master, context, task, folder)
        with frozen.imported_from(copy) if copy else nullcontext():
            with live.shown(plan.shown("victims", folder), master.quiet):
                launches.victims(plan.victims)
            with live.shown(plan.shown("thieves", folder), master.quiet):
                launches.thieves(plan.thieves)
    finally:
        from fmsteal.report.table import show_sweep

        show_sweep(results.of_sweep(folder), folder)
    _require_done(plan, launches)


def taken_over(grid: Grid, sweep_id: str | None) -> Grid:
    """The grid when the results of other sweeps have been taken over; a job whose result could not be is run."""
    cells = []
    for cell in grid.cells:
        if cell.shared and take_over(cell.shared, cell.folder, sweep_id):
            log.info("%s is taken over from %s", cell.key, cell.shared)
            cell = replace(cell, finished=True)
        cells.append(replace(cell, shared=None))
    return replace(grid, cells=cells)


class Plan:
    """What of a grid is run: of the victims that any job without a result needs, those that are not in the store."""

    def __init__(self, grid: Grid, stage: Stage) -> None:
        self.grid, self.stage = grid, stage
        needed = [cell for cell in grid.cells if not (cell.finished or cell.shared)]
        first_of = {cell.victim: cell for cell in reversed(needed)}  # the first job of each victim makes it
        self.ready = {cell.victim for cell in grid.cells if cell.victim_ready}
        wanted = [cell for cell in needed if first_of[cell.victim] is cell and cell.victim not in self.ready]
        self.victims: Sequence[Cell] = wanted if stage is not Stage.thieves else []
        self.thieves: Sequence[Cell] = needed if stage is not Stage.victims else []

    def shown(self, name: Literal["victims", "thieves"], folder: Path) -> Shown:
        """A launch as it is shown while it is under way."""
        from fmsteal.report import live

        if name == "victims":
            keys = {cell.victim: cell for cell in self.victims}
            entries = {key: Entry(key, folder / results.VICTIMS / key, results.MISSING, "victim") for key in keys}
            return live.Stage(name, entries, {}, prepared=lambda key: prepared(keys[key].cache, key))
        entries = {c.key: Entry(c.key, c.folder, results.MISSING, "thief", c.overrides) for c in self.thieves}
        differing = varying([{"axis": cell.axis, "overrides": cell.overrides} for cell in self.grid.cells])
        names = {cell.key: run_name(cell.axis, cell.overrides, differing, "thief") for cell in self.thieves}
        return live.Stage(name, entries, names, before=sum(cell.finished for cell in self.grid.cells))


class Launches:
    """The launches of one sweep, through the launcher that is chosen."""

    def __init__(self, master: DictConfig, context: HydraContext, task: TaskFunction, folder: Path) -> None:
        self._launcher = Plugins.instance().instantiate_launcher(context, task, master)
        self._folder = folder
        self._launched = 0
        self.failed_victims: set[str] = set()
        self.error: Exception | None = None

    def victims(self, cells: Sequence[Cell]) -> None:
        """Prepare the victim of each cell."""
        folders = [f"{results.VICTIMS}/{cell.victim}" for cell in cells]
        self._launch([[*cell.overrides, "stage=victims"] for cell in cells], folders)
        raised = [(self._folder / folder / results.FAILURE).is_file() for folder in folders]
        self.failed_victims = {cell.victim for cell, failed in zip(cells, raised, strict=True) if failed}

    def thieves(self, cells: Sequence[Cell]) -> None:
        """Run the jobs, but for those whose victim has just failed.

        What a victim raised its thieves would raise too, one after the other, each with a device of its own: they wait
        for the sweep to be run again. Where a victim's job was killed instead, the first thief goes on with it.
        """
        able = [cell for cell in cells if cell.victim not in self.failed_victims]
        if len(able) < len(cells):
            log.warning("%d jobs are left out: their victim failed", len(cells) - len(able))
        self._launch([list(cell.overrides) for cell in able], [cell.key for cell in able])

    def _launch(self, jobs: Sequence[Sequence[str]], folders: Sequence[str]) -> None:
        """Launch jobs and wait for them; a launcher that gives up in the middle loses nothing that is on disk."""
        if not jobs:
            return
        try:
            for name, job in zip(folders, self._launcher.launch(jobs, initial_job_idx=self._launched), strict=False):
                if job.status is JobStatus.FAILED and not (self._folder / name / results.FAILURE).is_file():
                    log.error("%s: %s", name, job._return_value)  # it could not say so itself
        except Exception as error:
            if not any((self._folder / name / ".hydra").is_dir() for name in folders):  # not one was begun
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
    result = read_json(cell.folder / results.RESULT)
    failed = (cell.folder / results.FAILURE).is_file()
    return isinstance(result, dict) and result.get("job_key") == cell.key and not failed
