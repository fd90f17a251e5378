from __future__ import annotations

from pathlib import Path

import pytest
from wandb.sdk.lib.config_util import save_config_file_from_dict

from fmsteal.base import agent
from fmsteal.base.errors import ConfigError


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of chosen values, as W&B's agent writes it, and the variables that it sets."""
    file = tmp_path / "wandb" / "sweep-abc" / "config-r1.yaml"
    save_config_file_from_dict(str(file), {"budget": {"value": "100"}, "thief.recipe.lr": {"value": 0.1}})
    for name, value in (("WANDB_SWEEP_ID", "abc"), ("WANDB_RUN_ID", "r1"), ("WANDB_SWEEP_PARAM_PATH", str(file))):
        monkeypatch.setenv(name, value)
    return file


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_a_command_that_has_all_chosen_values_may_run(chosen: Path) -> None:
    agent.require_sweep(["budget=100", "seed=3", "+thief.recipe.lr=0.1"])
    agent.require_one(1)


def test_a_command_that_lacks_chosen_values_would_be_the_same_each_time(chosen: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep abc has chosen thief\.recipe\.lr, .*\$\{args_no_hyphens\}"):
        agent.require_sweep(["budget=100"])


def test_a_sweep_that_is_gone_is_named(chosen: Path) -> None:
    chosen.unlink()
    with pytest.raises(ConfigError, match=r"The W&B sweep abc is gone: .*config-r1\.yaml.*unset WANDB_SWEEP_ID"):
        agent.require_sweep(["budget=100", "thief.recipe.lr=0.1"])
    with pytest.raises(ConfigError, match=r"The W&B sweep abc is gone: Sweep abc not found\. Start an agent"):
        agent.require_known("Sweep abc not found")
    agent.require_known("the network is unreachable")  # this run is kept offline


def test_a_damaged_file_of_values_is_named(chosen: Path) -> None:
    chosen.write_text("a: [")
    with pytest.raises(ConfigError, match=r"config-r1\.yaml \(WANDB_SWEEP_PARAM_PATH\) cannot be read"):
        agent.require_sweep([])


def test_several_jobs_do_not_fit_into_one_run(chosen: Path) -> None:
    with pytest.raises(ConfigError, match=r"named one run, and this command is for 3 jobs.*fmsteal wandb-sweep"):
        agent.require_one(3)


@pytest.mark.parametrize(
    "place", ["https://wandb.ai/me/p/runs/r1", "offline; upload it with: wandb sync /o/offline-run-1-r1"]
)
def test_a_result_counts_in_the_run_that_is_asked_for(chosen: Path, place: str) -> None:
    assert agent.is_logged({"tracker": place}) and not agent.is_logged({"tracker": place.replace("r1", "r2")})


def test_without_an_agent_nothing_is_asked(alone: None) -> None:
    agent.require_sweep([])
    agent.require_one(7)
    agent.require_known("sweep")
    assert agent.is_logged({"tracker": "metrics.csv"}) and not agent.started_us()
