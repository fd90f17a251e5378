"""Jobs that `wandb agent` starts, with W&B's own variables as it sets them and W&B offline."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from wandb.sdk.lib.config_util import save_config_file_from_dict

from fmsteal.base.store import read_json
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.wandb_file import OfflineRun, offline_runs
from tests.support.warm import Command

JOB = ("-m", *SMALL, "tracker=wandb", "victim._target_=tests.support.foreign_victims.Linear", "overlap=allow")
SWEEP = "outputs/sweeps/agents"
FIRST = ("seed=0", "thief.recipe.epochs=2")


def start(root: Path, run: str, *chosen: str) -> Command:
    """Start a command as an agent in ``root`` does, which has been told to run ``chosen`` as the run ``run``."""
    file = root / "wandb" / "sweep-abc" / f"config-{run}.yaml"
    values = (word.partition("=") for word in chosen)
    save_config_file_from_dict(str(file), {name: {"value": value} for name, _, value in values})
    told = {"WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": run, "WANDB_SWEEP_PARAM_PATH": str(file), "WANDB_DIR": str(root)}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return Command((*JOB, "sweep_id=agents", *chosen), root, {**environment(), **told, "PYTHONPATH": path})


def end(command: Command, ok: bool = True) -> CompletedProcess[str]:
    done = command.done()
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents at the same time, each with a job; then one that was begun anew, with the first job once more."""
    root = tmp_path_factory.mktemp("agents")
    both = [start(root, f"run{seed}", f"seed={seed}", f"thief.recipe.epochs={2 + seed}") for seed in (0, 1)]
    for command in both:
        end(command)
    asked = [file.stat().st_mtime_ns for file in sorted(root.glob("outputs/thefts/*/ledger.bin"))]
    end(start(root, "again", *FIRST))
    assert [file.stat().st_mtime_ns for file in sorted(root.glob("outputs/thefts/*/ledger.bin"))] == asked
    return root


def runs(root: Path) -> dict[str, OfflineRun]:
    return {found.run.run_id: found for found in offline_runs(root / SWEEP)}


@pytest.mark.slow
def test_a_job_logs_into_the_run_that_its_agent_names(root: Path) -> None:
    found = runs(root)
    assert found.keys() == {"run0", "run1", "again"} and {r.exit_code for r in found.values()} == {0}
    assert {r.run.sweep_id for r in found.values()} == {"abc"} and {r.run.job_type for r in found.values()} == {"thief"}
    assert [found[name].config["seed"] for name in ("run0", "run1")] == ["0", "1"]
    for file in (root / SWEEP).glob("*/result.json"):
        result = read_json(file)
        run = found["run1" if result["axis"]["seed"] == 1 else "run0"]
        assert run.summary["test/agreement"] == result["metrics"]["test/agreement"]


def test_jobs_of_agents_at_the_same_time_are_one_sweep_with_both(root: Path) -> None:
    assert [job["axis"]["seed"] for job in read_json(root / SWEEP / "sweep.json")["jobs"].values()] in ([0, 1], [1, 0])


def test_a_job_that_is_done_is_only_logged_into_a_new_run(root: Path) -> None:
    found = runs(root)
    assert found["again"].summary["test/agreement"] == found["run0"].summary["test/agreement"]
    assert found["again"].curve("thief/epoch", "thief/loss") == found["run0"].curve("thief/epoch", "thief/loss") != []
    said = end(start(root, "again", *FIRST))  # the agent's run is resumed
    assert "1 are finished already" in said.stdout and len(offline_runs(root / SWEEP)) == 3


def test_an_agent_whose_sweep_is_gone_starts_nothing(root: Path, tmp_path: Path) -> None:
    command = start(tmp_path, "lost", "seed=5")
    (tmp_path / "wandb" / "sweep-abc" / "config-lost.yaml").unlink()
    said = end(command, ok=False)
    assert "The W&B sweep abc is gone" in said.stderr and not (tmp_path / "outputs").exists()
