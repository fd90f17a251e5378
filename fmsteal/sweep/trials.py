"""The trials of a search, kept by Optuna: what was tried, what came of it, and what to try next.

They are in a file of the sweep's folder (SQLite), or wherever ``storage`` says. A trial that failed, or whose command
was killed, is tried again by the next command with the same values, as a trial of its own: its jobs are found or
continued by their keys, so that nothing is paid twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import digest
from fmsteal.records.folders import SweepFolder
from fmsteal.sweep.space import Parameter, Space, Value

PATIENCE = 60  # seconds that a command waits for another one that writes to the file
REPLACED, COMMAND, ERROR = "instead_of", "command", "error"  # what is noted of a trial


@dataclass(frozen=True)
class Trial:
    """A trial under way: as Optuna has it, with a value for each parameter of the space."""

    asked: optuna.Trial
    values: tuple[Value, ...]

    @property
    def number(self) -> int:
        """Its number among all trials."""
        return self.asked.number


class Trials:
    """All trials of one search."""

    def __init__(
        self,
        place: SweepFolder,
        space: Space,
        sampler: DictConfig,
        direction: str,
        storage: str | None,
        name: str,
        about: Mapping[str, Any],
    ) -> None:
        """Open them, or begin a search.

        Args:
            place: the sweep's folder.
            space: what is searched.
            sampler: config of one of Optuna's samplers; its ``seed`` is made another one for each trial.
            direction: ``maximize`` or ``minimize``.
            storage: a URL that Optuna takes; None for a file in the sweep's folder.
            name: Optuna's name for the search.
            about: what the trials of one search have in common: the metric, the seeds.

        Raises:
            ConfigError: the search of this name is another one, or Optuna refuses an option.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self._sampler = space, sampler
        self.make_sampler(0)  # refuses what Optuna refuses
        try:
            self._study = optuna.create_study(
                storage=_open(storage or f"sqlite:///{place.search.absolute()}"),
                study_name=name,
                direction=direction,
                load_if_exists=True,
            )
        except Exception as error:  # of SQLAlchemy, of drivers, of Optuna
            raise ConfigError(f"hydra.sweeper.storage={storage}: Optuna cannot open it ({error}).") from error
        known = {**about, "direction": direction}
        before = self._study.user_attrs
        if other := [f"{key}={before[key]}, now {now}" for key, now in known.items() if before.get(key, now) != now]:
            raise ConfigError(
                f"{place.path} holds a search with {'; '.join(other)}: the values of its trials cannot be compared "
                "with new ones. Give this search another name: sweep_id=..."
            )
        for key, value in known.items():
            self._study.set_user_attr(key, value)

    @property
    def all(self) -> list[FrozenTrial]:
        """The trials that count, by number: not those that another one has replaced, nor those not yet begun."""
        trials = self._study.get_trials(deepcopy=False)
        replaced = {trial.user_attrs.get(REPLACED) for trial in trials}
        return [trial for trial in trials if trial.number not in replaced and trial.state is not TrialState.WAITING]

    @property
    def done(self) -> list[FrozenTrial]:
        """The trials with a value, the best first."""
        done = [trial for trial in self.all if trial.state is TrialState.COMPLETE]
        sign = -1 if self._study.direction is optuna.study.StudyDirection.MAXIMIZE else 1
        return sorted(done, key=lambda trial: sign * float(trial.value or 0.0))

    @property
    def failed(self) -> list[FrozenTrial]:
        """The trials that have failed and were not tried again."""
        return [trial for trial in self.all if trial.state is TrialState.FAIL]

    def renew(self, is_alive: Callable[[str], bool]) -> int:
        """Queue what has failed or was cut off to be tried again; ``is_alive`` says whether a command still runs.

        Returns:
            The number of trials that will be tried again.
        """
        for trial in self.all:
            if trial.state is TrialState.RUNNING and not is_alive(trial.user_attrs.get(COMMAND, "")):
                self._study.tell(trial.number, state=TrialState.FAIL)
        failed = self.failed
        for trial in failed:
            self._study.enqueue_trial(trial.params, user_attrs={REPLACED: trial.number})
        return len(failed)

    def ask(self, count: int, command: str) -> list[Trial]:
        """The next trials; first those that `renew` has queued. ``command`` is noted as the one that runs them.

        Raises:
            ConfigError: an option has other choices than in the trials so far.
        """
        made = []
        for _ in range(count):
            self._study.sampler = self.make_sampler(len(self.all))
            trial = self._study.ask()
            trial.set_user_attr(COMMAND, command)
            try:
                values = [suggest(trial, parameter) for parameter in self.space.parameters]
            except ValueError as error:
                self._study.tell(trial, state=TrialState.FAIL)
                raise ConfigError(
                    f"A search keeps the choices and the kind of its options ({error}): give this one another name: "
                    "sweep_id=..."
                ) from error
            made.append(Trial(trial, tuple(values)))
        return made

    def tell(self, trial: Trial, value: float, parts: Mapping[str, float]) -> None:
        """Note the value of a trial, the mean over its jobs, and that of each job by its key."""
        trial.asked.set_user_attr("jobs", dict(parts))
        self._study.tell(trial.asked, value)

    def fail(self, trial: Trial, why: str) -> None:
        """Note that a trial has no value."""
        trial.asked.set_user_attr(ERROR, why)
        self._study.tell(trial.asked, state=TrialState.FAIL)

    def values_of(self, trial: FrozenTrial) -> tuple[Value, ...]:
        """The values that a trial has tried, in the order of the parameters.

        Raises:
            KeyError: the trial is from before an option was searched.
        """
        return tuple(trial.params[parameter.key] for parameter in self.space.parameters)

    def make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of a trial: a search that was cut off goes on as if it had not been.

        Raises:
            ConfigError: Optuna has no such sampler, or it does not take an option.
        """
        node = OmegaConf.to_container(self._sampler, resolve=True)
        assert isinstance(node, dict)
        if node.get("seed") is not None:
            node["seed"] = int(digest([node["seed"], number])[:7], 16)
        try:
            made = instantiate(node)
        except InstantiationException as error:
            raise ConfigError(f"hydra.sweeper.sampler: {error}") from error
        if not isinstance(made, optuna.samplers.BaseSampler):
            raise ConfigError(f"hydra.sweeper.sampler._target_={node.get('_target_')} is no sampler of Optuna.")
        return made


def suggest(trial: optuna.Trial, parameter: Parameter) -> Value:
    """Let Optuna choose a parameter's value."""
    if parameter.kind == "choice":
        return str(trial.suggest_categorical(parameter.key, parameter.choices))
    if parameter.kind == "int":
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return trial.suggest_int(parameter.key, low, high, step=step, log=parameter.log)
    return trial.suggest_float(parameter.key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def _open(url: str) -> optuna.storages.BaseStorage:
    waits = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=waits)


def summarise(trials: Trials, words: Callable[[Sequence[Value]], list[str]], metric: str) -> dict[str, Any]:
    """The best trial as Hydra's own sweepers write it, and the overrides that make its jobs."""
    best = trials.done[0]
    return {
        "name": "optuna",
        "best_params": best.params,
        "best_value": best.value,
        "best_overrides": words(trials.values_of(best)),
        "metric": metric,
        "trials": len(trials.done),
    }
