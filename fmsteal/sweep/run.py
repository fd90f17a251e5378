"""Runs a sweep in launches: each distinct victim once, then thefts, then measurements of existing thefts.

What is done already is read from disk.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fmsteal.base import agent
from fmsteal.base.errors import FmstealError
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.base.store import require_writable
from fmsteal.config.schema import Stage
from fmsteal.records.folders import SweepFolder
from fmsteal.records.prepared import is_prepared
from fmsteal.sweep import leave, record
from fmsteal.sweep.evaluate import add_overrides
from fmsteal.sweep.grid import Grid, check_jobs, expand
from fmsteal.sweep.launches import Launches, read_result
from fmsteal.sweep.opened import attend, open_sweep
from fmsteal.sweep.stages import SweepPlan

if TYPE_CHECKING:
    from fmsteal.sweep.estimate import Estimate

log = logging.getLogger(__name__)


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
    plan = SweepPlan(grid, Stage.thieves if agent.started_us() else master.stage)  # a victim's run would be another one
    done = sum(job.finished for job in grid.jobs)
    log.info("%d jobs are checked, in %.1f s; %d are finished already", len(grid.jobs), time.monotonic() - began, done)
    if master.dry_run:
        from fmsteal.sweep.plan import show_plan

        return show_plan(plan, folder, _estimate(plan, master), master.dry_run == "full")
    try:
        from fmsteal.sweep.available import require_data

        require_data([pickle.loads(job) for job in grid.unlike], master.stage)
        leave.refuse_queued(plan, folder, master.hydra.launcher)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    with open_sweep(master, context, loader, freeze) as opened:
        if of is None:
            opened.record(grid)
        elif place.record.is_file():  # single runs have no record
            opened.record(grid, command=None)
        launches = Launches(master, context, task, folder)
        if leave.is_asked(master.hydra.launcher):
            return leave.submit(plan, launches, folder)
        with attend(place):
            launches.run(plan, quiet=master.quiet)
            if not agent.started_us():  # a cell's run would be another one than the agent's
                send_cells(plan, folder)
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
    agent.require_one(len(grid.jobs))
    if not (mixed or agent.started_us()):  # an agent's job does not say in what others differ from it
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


def keep_stolen(grid: Grid) -> Grid:
    """Keep the jobs of a grid whose theft is sealed, which can be measured without stealing."""
    able = [job for job in grid.jobs if job.sealed]
    if left := len(grid.jobs) - len(able):
        log.warning("%d jobs are left out: their theft is not finished", left)
    return replace(grid, jobs=able)


def send_cells(plan: SweepPlan, folder: Path) -> None:
    """Send the cells of a sweep over seeds to the service of its jobs; what goes wrong there is only a warning."""
    if plan.stage is Stage.victims or len({job.cell for job in plan.grid.jobs}) == len(plan.grid.jobs):
        return
    from fmsteal.report.show.cells import send

    try:
        found = send(folder)
    except Exception as error:  # a network, a disk, a class of another package
        log.warning("The cells were not sent (%s). To send them: fmsteal cells %s", error, folder)
        return
    if found.sent:
        log.info("%d cells are sent as runs of their own: means over seeds", found.sent)


def _require_done(plan: SweepPlan, launches: Launches) -> None:
    if plan.stage is Stage.victims:
        asked, what = len(plan.victims), "victims are not prepared"
        missing = sum(not is_prepared(job.cache, job.victim) for job in plan.victims)
    else:
        asked, what = len(plan.grid.jobs), "jobs have no result"
        missing = sum(read_result(job) is None for job in plan.thieves)
    if missing:
        gave_up = f" The launcher gave up: {launches.error}." if launches.error else ""
        raise CompactHydraException(f"fmsteal: {missing} of {asked} {what}.{gave_up}")
