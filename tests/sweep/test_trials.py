"""What Optuna keeps of a search, without any job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.records.folders import SweepFolder
from fmsteal.sweep.space import Parameter, Space

pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
from fmsteal.sweep.trials import Trials

SPACE = Space(
    (Parameter("lr", "float", 1e-4, 1.0, log=True), Parameter("loss", "choice", choices=("soft", "hard"))), ()
)
TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 2}


def opened(root: Path, space: Space = SPACE, metric: str = "test/agreement", **sampler: object) -> Trials:
    node = OmegaConf.create({**TPE, **sampler})
    return Trials(SweepFolder(root), space, node, "maximize", None, "name", {"metric": metric})


def value(values: tuple[float | int | str, ...]) -> float:
    return -abs(float(values[0]) - 0.1) + (values[1] == "hard")


def tried(trials: Trials, count: int, tell: Callable[[int], bool] = lambda number: True) -> list[tuple[object, ...]]:
    """Ask for trials one by one, and tell their values, or that they have failed."""
    for _ in range(count):
        (trial,) = trials.ask(1, "me")
        if tell(trial.number):
            trials.tell(trial, value(trial.values), {"job": value(trial.values)})
        else:
            trials.fail(trial, "why")
    return [trials.values_of(trial) for trial in trials.all]


def test_a_search_that_was_cut_off_tries_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    whole = tried(opened(tmp_path), 6)
    assert len(set(whole)) == 6
    (tmp_path / "cut").mkdir()
    first = opened(tmp_path / "cut")
    tried(first, 3)
    first.ask(1, "me")  # and is killed
    again = opened(tmp_path / "cut")
    assert again.renew(lambda command: command != "me") == 1
    assert tried(again, 3) == whole
    assert len(again.done) == 6 and not again.failed


def test_a_trial_of_a_command_that_is_at_work_is_left_to_it(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    (theirs,) = trials.ask(1, "me")
    assert trials.renew(lambda command: command == "me") == 0 and len(trials.all) == 1
    trials.tell(theirs, 0.5, {})
    assert [trial.value for trial in trials.done] == [0.5]


def test_what_failed_is_tried_once_more_with_the_same_values(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    before = tried(trials, 3, lambda number: number != 1)
    assert [trial.number for trial in trials.failed] == [1] and trials.failed[0].user_attrs["error"] == "why"
    again = opened(tmp_path)
    assert again.renew(lambda command: False) == 1 and again.renew(lambda command: False) == 0
    after = tried(again, 1)
    assert sorted(after, key=str) == sorted(before, key=str) and not again.failed and len(again.done) == 3


def test_the_best_come_first(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    tried(trials, 4)
    values = [trial.value for trial in trials.done]
    assert values == sorted(values, reverse=True)
    assert trials.done[0].user_attrs["jobs"] == {"job": values[0]}


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    tried(opened(tmp_path), 1)
    with pytest.raises(ConfigError, match=r"search with metric=test/agreement, now cost/usd.*sweep_id="):
        opened(tmp_path, metric="cost/usd")
    other = Space((Parameter("loss", "choice", choices=("soft", "top")),), ())
    with pytest.raises(ConfigError, match=r"keeps the choices.*sweep_id="):
        tried(opened(tmp_path, other), 1)


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        ({"_target_": "optuna.samplers.NoSampler"}, r"hydra\.sweeper\.sampler: .*NoSampler"),
        ({"_target_": "collections.Counter"}, r"collections\.Counter is no sampler"),
        ({"nonsense": 1}, r"hydra\.sweeper\.sampler: .*nonsense"),
    ],
)
def test_a_sampler_that_optuna_does_not_have_is_refused(tmp_path: Path, sampler: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){says}"):
        opened(tmp_path, **sampler)


def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.storage=nonsense: Optuna cannot open it"):
        Trials(SweepFolder(tmp_path), SPACE, OmegaConf.create(TPE), "maximize", "nonsense", "name", {})
