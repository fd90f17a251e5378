"""Searches instead of sweeping: Optuna proposes trials, whose jobs are composed, checked and run like those of a sweep.

A trial is one choice of values; its value is the mean of a figure (``metric=...``) over its jobs, one for each seed.
All that `fmsteal.sweep.run` does holds here: mistakes are found before a job runs, victims are made once and first,
what is on disk is not done again, and a job that fails leaves the others alone.

hydra-optuna-sweeper is not used: its releases for hydra-core below 1.4 need optuna below 3, and it launches a trial as
one unchecked job, takes no mean over seeds, and proposes ``n_trials`` more whenever it is started again.
"""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.lease import is_held
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.base.quoting import spell_command
from fmsteal.base.store import require_writable, write_text
from fmsteal.config.schema import Stage
from fmsteal.job import objective
from fmsteal.records.folders import SweepFolder
from fmsteal.sweep import leave, record
from fmsteal.sweep.grid import Grid, SweepJob, check_jobs
from fmsteal.sweep.launches import Launches, read_result
from fmsteal.sweep.opened import OpenSweep, attend, open_sweep
from fmsteal.sweep.run import run
from fmsteal.sweep.space import Space, read_space
from fmsteal.sweep.stages import SweepPlan
from fmsteal.sweep.trials import Trial, Trials

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchOptions:
    """The options of ``hydra/sweeper=optuna``, explained in its file below ``conf/``."""

    n_trials: int = 20
    n_jobs: int = 1
    direction: str | None = None
    held_out: bool = False
    sampler: Any = None
    storage: str | None = None
    study_name: str | None = None
    mixed: bool = False
    freeze: bool = True

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_jobs"):
            if not isinstance(number := getattr(self, name), int) or number < 1:
                raise ConfigError(f"hydra.sweeper.{name} must be a whole number of at least 1, not {number}.")
        if self.direction not in (None, "maximize", "minimize"):
            raise ConfigError(f"hydra.sweeper.direction is maximize or minimize, not {self.direction}.")


def search(
    arguments: Sequence[str], master: DictConfig, context: HydraContext, task: TaskFunction, given: dict[str, Any]
) -> None:
    """Run trials until there are as many as asked for; those of earlier commands count.

    Without an option to search, as for one job of a preset, it is a sweep. For the arguments see `fmsteal.sweep.run`;
    ``given`` are the sweeper's `SearchOptions`.

    Raises:
        CompactHydraException: something is wrong, so that nothing was run; or trials have no value.
        Stopped: the command was told to end; the same command goes on.
    """
    loader = SharedLoader(context.config_loader.get_search_path())
    loader.open(master)
    try:
        how = SearchOptions(**given)
        space = read_space(loader, arguments)
        if not space.parameters:
            return run(arguments, master, context, task, mixed=how.mixed, freeze=how.freeze)
        found = Search(space, master, how)
        grid = found.check(loader)
        if master.dry_run:
            from fmsteal.sweep.search_shown import show_plan

            return show_plan(found, grid)
        from fmsteal.sweep.available import require_data

        require_data([pickle.loads(job) for job in grid.unlike], master.stage)
        with open_sweep(master, context, loader, how.freeze) as opened, attend(found.place) as held:
            found.run(grid, opened, Launches(master, context, task, found.place.path), held.name)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error


class Search:
    """One search: what it tries, for which figure, and its trials."""

    def __init__(self, space: Space, master: DictConfig, how: SearchOptions) -> None:
        _require_waiting(master)
        self.space, self.how, self.metric = space, how, _require_metric(master, how)
        self.place, self._master = SweepFolder(Path(master.hydra.sweep.dir)), master

    def open(self) -> Trials:
        """Its trials so far.

        Raises:
            ConfigError: they are those of another search.
        """
        about = {"metric": self.metric, "seeds": list(self.space.seeds)}
        name = self.how.study_name or str(self._master.sweep_id or self.place.path.name)
        sampler = OmegaConf.create(self.how.sampler or {"_target_": "optuna.samplers.TPESampler", "seed": 0})
        return Trials(self.place, self.space, sampler, self.how.direction or "maximize", self.how.storage, name, about)

    def check(self, loader: SharedLoader) -> Grid:
        """Compose and check jobs with the ends and all choices of the space, and check the folder.

        Raises:
            FmstealError: one of them is not valid, or the folder cannot be used.
        """
        require_writable(self.place.path)
        record.refuse_earlier(self.place.path)
        grid = check_jobs(loader, self._master, self.space.samples())
        if not self.how.mixed:
            record.require_same(self.place.path, grid)
        return grid

    def run(self, checked: Grid, opened: OpenSweep, launches: Launches, command: str) -> None:
        """Run the trials that are missing, some at a time, as those of this ``command``; then say which is the best.

        Raises:
            ConfigError: the jobs do not log the metric.
            CompactHydraException: trials have no value, or a victim has failed.
        """
        trials = self.open()
        again = trials.renew(lambda name: bool(name) and is_held(self.place.path / name))
        log.info("%d of %d trials are done, %d are tried again", len(trials.done), self.how.n_trials, again)
        while (left := self.how.n_trials - len(trials.all)) > 0:
            asked = trials.ask(min(left, self.how.n_jobs), command)
            self._run(asked, checked, opened, launches, trials)
            if launches.failed_victims:
                raise CompactHydraException(
                    "fmsteal: the victim failed, and with it all trials: nothing more is tried."
                )
        self._tell_best(trials)
        if failed := trials.failed:
            raise CompactHydraException(f"fmsteal: {len(failed)} of {len(trials.all)} trials have no value.")

    def _run(
        self, asked: Sequence[Trial], checked: Grid, opened: OpenSweep, launches: Launches, trials: Trials
    ) -> None:
        jobs, whole = dict[int, Sequence[SweepJob]](), dict[str, SweepJob]()
        for trial in asked:
            try:
                grid = check_jobs(opened.loader, self._master, self.space.jobs(trial.values), partly=True)
            except FmstealError as error:  # the ends were fine, these values together are not
                log.error("trial %d: %s", trial.number, error)
                trials.fail(trial, str(error))
                continue
            jobs[trial.number] = grid.jobs
            whole |= {job.key: job for job in grid.jobs}
        plan = SweepPlan(replace(checked, jobs=list(whole.values())), Stage.all)
        opened.record(plan.grid)
        launches.run(plan, self._master.quiet)
        told = [(trial, self._tell(trial, jobs[trial.number], trials)) for trial in asked if trial.number in jobs]
        if missing := next((error for _, error in told if error is not None), None):
            raise missing

    def _tell(self, trial: Trial, jobs: Sequence[SweepJob], trials: Trials) -> ConfigError | None:
        """Note a trial's value; return the error of a metric that its jobs do not log, which no other will."""
        found = [read_result(job) for job in jobs]
        try:
            parts = {result["job_key"]: self.read(result) for result in found if result is not None}
        except ConfigError as error:
            trials.fail(trial, str(error))
            return error
        values = list(parts.values())
        if len(values) < len(jobs):
            trials.fail(trial, f"{len(jobs) - len(values)} of {len(jobs)} jobs have no result")
        elif not all(map(math.isfinite, values)):
            trials.fail(trial, f"{self.metric} is {values}")
        else:
            trials.tell(trial, math.fsum(values) / len(values), parts)
            own = ", ".join(p.word(v) for p, v in zip(self.space.parameters, trial.values, strict=True))
            log.info("trial %d: %s %.4g with %s", trial.number, self.metric, math.fsum(values) / len(values), own)
        return None

    def read(self, result: Mapping[str, Any]) -> float:
        """The value of a job.

        Raises:
            ConfigError: it does not log the metric, or the metric is one to minimise and nobody has said so.
        """
        about = result.get("about", {}).get(self.metric, {})
        if self.how.direction is None and about.get("higher_is_better") is False:
            raise ConfigError(
                f"metric={self.metric} is the better the smaller it is: hydra.sweeper.direction=minimize (or maximize, "
                "to search for the largest all the same)."
            )
        return objective.read(result, self.metric)

    def _tell_best(self, trials: Trials) -> None:
        from fmsteal.sweep.search_shown import show_trials

        if not trials.done:
            return
        best = trials.done[0]
        values = trials.values_of(best)
        words = self.space.jobs(values)[0]
        own = [word for word in words if not self.space.seeds or not word.startswith("seed=")]
        found = {
            "name": "optuna",
            "best_params": best.params,
            "best_value": best.value,
            "best_overrides": own,
            "metric": self.metric,
            "trials": len(trials.done),
        }
        write_text(self.place.best, OmegaConf.to_yaml(OmegaConf.create(found)))
        show_trials(trials, self.metric, spell_command(["fmsteal", *own]))


def _require_waiting(master: DictConfig) -> None:
    """Check that the command makes whole jobs, and waits for them.

    Raises:
        ConfigError: it makes one stage of them, or leaves them to a cluster.
    """
    if master.stage is not Stage.all:
        raise ConfigError("A search makes its victims as they are needed: leave out stage=...")
    if leave.is_asked(master.hydra.launcher):
        raise ConfigError(
            "A search waits for the results of its trials, which tell what to try next: leave out "
            "hydra.launcher.wait=false. To leave the login node, submit this command as a job itself."
        )


def _require_metric(master: DictConfig, how: SearchOptions) -> str:
    """The figure to search for.

    Raises:
        ConfigError: none is given, or it is one that this search must not choose by.
    """
    if master.metric is None:
        raise ConfigError(
            "A search needs a figure to look for: metric=test/agreement, or metric=attack/held_out_agreement."
        )
    metric = str(master.metric)
    if metric.startswith("attack/"):
        return metric
    if how.held_out and not metric.startswith("cost/"):
        raise ConfigError(
            f"metric={metric} is measured on the victim's test images, which an attacker does not have, and the best "
            "of many trials is then too good. This search chooses by answers that the thief is not trained on: "
            "metric=attack/held_out_agreement, or hydra.sweeper.held_out=false."
        )
    log.warning(
        "metric=%s is measured on test images: the best trial's figure is too good, as it is the best of many. Report "
        "its figure with other seeds, or search by metric=attack/held_out_agreement",
        metric,
    )
    return metric
