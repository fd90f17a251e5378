"""A search with real jobs: what is done is kept, what failed is tried again, and nothing is paid for twice."""

from __future__ import annotations

import os
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from omegaconf import OmegaConf

from fmsteal.base.store import read_json
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.warm import Command

pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")

JOB = (*SMALL, "victim._target_=tests.support.foreign_victims.Linear", "overlap=allow", "attack.validation=0.3")
SEARCH = ("-m", *JOB, "hydra/sweeper=optuna", "sweep_id=found", "seed=0,1")
METRIC = "metric=attack/held_out_agreement"
PLACE = Path("outputs/sweeps/found")
RATE = "thief.recipe.lr=tag(log,interval(1e-3,1e-1))"


def fmsteal(root: Path, *words: str, ok: bool = True) -> CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = Command(words, root, {**environment(), "PYTHONPATH": path}).done()
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def results(root: Path) -> dict[Path, int]:
    """The finished jobs, with the time at which each was finished."""
    return {file: file.stat().st_mtime_ns for file in (root / PLACE).glob("*/result.json")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two trials, and two seeds each."""
    root = tmp_path_factory.mktemp("search")
    fmsteal(root, *SEARCH, METRIC, RATE, "hydra.sweeper.n_trials=2")
    return root


def test_a_trial_is_the_mean_over_its_seeds(root: Path) -> None:
    found = [read_json(file) for file in results(root)]
    assert sorted(job["axis"]["seed"] for job in found) == [0, 0, 1, 1]
    best = OmegaConf.load(root / PLACE / "optimization_results.yaml")
    (rate,) = (word for word in best.best_overrides if word.startswith("thief.recipe.lr="))
    of_best = [job for job in found if rate in job["command"]]
    values = [job["metrics"]["attack/held_out_agreement"] for job in of_best]
    assert len(values) == 2 and best.best_value == pytest.approx(sum(values) / 2, abs=1e-12)
    assert float(rate.partition("=")[2]) == pytest.approx(best.best_params["thief.recipe.lr"], rel=1e-3)
    assert best.metric == "attack/held_out_agreement"


@pytest.mark.slow
def test_more_trials_keep_those_that_are_done(root: Path) -> None:
    before = results(root)
    said = fmsteal(root, *SEARCH, METRIC, RATE, "hydra.sweeper.n_trials=3")
    assert "2 of 3 trials are done" in said.stdout and "The best of 3 trials" in said.stdout
    after = results(root)
    assert len(after) == 6 and before.items() <= after.items()
    again = fmsteal(root, *SEARCH, METRIC, RATE, "hydra.sweeper.n_trials=3")
    assert "Launching" not in again.stdout and results(root) == after
    plan = fmsteal(root, *SEARCH, METRIC, RATE, "hydra.sweeper.n_trials=5", "dry_run=true").stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in plan.splitlines()]
    assert ["thief.recipe.lr", "0.001 to 0.1 (by logarithm)"] in rows and ["5", "3", "2", "4", "400", "0.60"] in rows


def test_one_job_of_a_search_is_a_job(root: Path) -> None:
    before = results(root)
    some = read_json(next(iter(before)))
    words = [word for word in some["command"].split() if word.startswith("thief.recipe.lr=")]
    done = fmsteal(root, *SEARCH[:-1], "seed=0,1", METRIC, *words)
    assert "2 are finished already" in done.stdout and results(root) == before


@pytest.mark.slow
def test_what_a_job_does_not_log_ends_the_search_with_what_it_logs(root: Path) -> None:
    said = fmsteal(root, *SEARCH, "metric=attack/nonsense", RATE, "sweep_id=other", ok=False)
    assert "metric=attack/nonsense: " in said.stderr and "It has attack/held_out_agreement, cost/" in said.stderr
    assert len(list((root / "outputs/sweeps/other").glob("*/result.json"))) <= 2, "of the first trial alone"
    less = fmsteal(root, *SEARCH, "metric=test/kl", RATE, "sweep_id=less", ok=False)
    assert "metric=test/kl is the better the smaller it is: hydra.sweeper.direction=minimize" in less.stderr


@pytest.mark.slow
def test_a_trial_that_fails_leaves_the_others_alone_and_is_tried_again(tmp_path: Path) -> None:
    rates = ("thief.recipe.lr=0.01,1e38", "thief.recipe.optimizer=sgd", "hydra.sweeper.n_trials=4")
    said = fmsteal(
        tmp_path, *SEARCH, METRIC, *rates, "hydra.sweeper.sampler._target_=optuna.samplers.RandomSampler", ok=False
    )
    assert "of 4 trials have no value" in said.stderr and "the training diverged" in said.stdout + said.stderr
    done = results(tmp_path)
    assert len(done) == 2, "one trial's jobs: the others of the same values are the same jobs"
    failed = [folder for folder in (tmp_path / PLACE).glob("digits*") if (folder / "failure.json").is_file()]
    assert len(failed) == 2
    again = fmsteal(tmp_path, *SEARCH, METRIC, *rates, ok=False)
    assert "are tried again" in again.stdout and results(tmp_path) == done


@pytest.mark.slow
def test_a_search_that_is_killed_ends_like_one_that_is_not(tmp_path: Path, root: Path) -> None:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    words = (*SEARCH, METRIC, RATE, "hydra.sweeper.n_trials=2")
    running = Command(words, tmp_path, {**environment(), "PYTHONPATH": path})
    while not results(tmp_path):  # one job of the first trial
        time.sleep(0.05)
    running.send_signal(9)
    running.communicate()
    said = fmsteal(tmp_path, *words)
    assert "1 are tried again" in said.stdout
    undisturbed = {file.parent.name: read_json(file)["metrics"] for file in results(root)}
    ours = {file.parent.name: read_json(file)["metrics"] for file in results(tmp_path)}
    assert len(ours) == 4 and ours.items() <= undisturbed.items()


@pytest.mark.slow
def test_the_preset_tunes_a_thief_on_held_out_answers_alone(tmp_path: Path) -> None:
    words = (
        "-m",
        "sweep=tune/against_defense",
        "tracker=none",
        "trainer=cpu",
        "budget.queries=300",
        "hydra.sweeper.n_trials=3",
    )
    refused = fmsteal(tmp_path, *words, "metric=test/agreement", ok=False)
    assert "an attacker does not have" in refused.stderr and "metric=attack/held_out_agreement" in refused.stderr
    fmsteal(tmp_path, *words)
    place = tmp_path / "outputs/sweeps/tune_against_defense"
    best = OmegaConf.load(place / "optimization_results.yaml")
    assert (best.trials, best.metric) == (3, "attack/held_out_agreement") and 0 < best.best_value <= 1
    found = [read_json(file) for file in place.glob("*/result.json")]
    assert len(found) == 6 and {job["axis"]["defense"] for job in found} == {"reverse_sigmoid"}
    assert len({job["victim"] for job in found}) == 1
