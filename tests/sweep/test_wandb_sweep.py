"""What `fmsteal wandb-sweep` writes, read by W&B's own code as its agent reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from fmsteal.base.errors import ConfigError
from fmsteal.sweep.wandb_sweep import describe, main
from tests.support.composing import SMALL, composed

LR = "thief.recipe.lr=tag(log,interval(1e-4,1e-1))"
TUNED = ("metric=test/agreement", *SMALL)


def expand(sweep: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """The words that an agent starts, for values that W&B's server has chosen."""
    given = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    words = create_sweep_command(sweep["command"])
    return [part for word in words for part in (given.get(word[2:-1], []) if word.startswith("${") else [word])]


def test_a_preset_becomes_a_grid_of_its_axes(tmp_path: Path) -> None:
    main(["wandb-sweep", "sweep=quickstart", "seed=range(0,2)", "-o", str(tmp_path / "sweep.yaml")])
    found = load_sweep_config(str(tmp_path / "sweep.yaml"))
    assert found is not None
    assert (found["method"], found["name"], found["project"]) == ("grid", "quickstart", "fmsteal")
    assert found["parameters"] == {
        "victim": {"values": ["efficientnet_lite0", "resnet10t"]},
        "thief": {"values": ["efficientnet_lite0", "resnet10t"]},
        "budget": {"values": ["100", "500", "1k"]},
        "seed": {"values": [0, 1]},
    }
    words = expand(found, {"victim": "resnet10t", "thief": "resnet10t", "budget": "100", "seed": 1})
    assert words == ["fmsteal", "-m", "sweep=quickstart", "victim=resnet10t", "thief=resnet10t", "budget=100", "seed=1"]


def test_intervals_are_searched_for_a_figure() -> None:
    found = describe(
        [*TUNED, LR, "thief.recipe.epochs=int(interval(1,4))", "attack/loss=soft,hard", "sweep_id=s"], None, "maximize"
    )
    assert (found["method"], found["metric"]) == ("bayes", {"name": "test/agreement", "goal": "maximize"})
    assert found["parameters"] == {
        "thief.recipe.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "thief.recipe.epochs": {"distribution": "int_uniform", "min": 1, "max": 4},
        "attack/loss": {"values": ["soft", "hard"]},
    }
    words = expand(found, {"thief.recipe.lr": 1e-05, "thief.recipe.epochs": 3, "attack/loss": "hard"})
    cfg = composed(*(word for word in words if "=" in word))
    assert (cfg.thief.recipe.lr, cfg.thief.recipe.epochs, cfg.attack.loss._target_[-18:]) == (
        1e-5,
        3,
        "hard_cross_entropy",
    )


def test_it_is_the_same_each_time_and_named_by_its_axes() -> None:
    first, second = (describe([*SMALL, "thief.recipe.epochs=1,2"], None, "maximize") for _ in range(2))
    assert first == second and first["name"].startswith("sweep-") and f"sweep_id={first['name']}" in first["command"]
    assert yaml.safe_load(yaml.safe_dump(first)) == first


@pytest.mark.parametrize(
    ("words", "method", "says"),
    [
        ([*SMALL], None, "Nothing varies"),
        ([*TUNED, LR], "grid", r"needs values, not an interval \(thief\.recipe\.lr\): random or bayes"),
        ([*SMALL, LR], "bayes", r"bayes needs a figure.*metric=test/agreement"),
        ([*TUNED, LR, "seed=0,1"], None, r"takes no mean over runs.*hydra/sweeper=optuna"),
        ([*SMALL, "budget=100,7k"], None, r"budget/7k"),
        ([*SMALL, "budget=100,500", "metric=test/agrement"], None, r"Did you mean test/agreement"),
        ([*TUNED, "thief.recipe.epochs=interval(1,4)"], None, r"thief\.recipe\.epochs=2\.854 does not fit"),
    ],
    ids=lambda value: " ".join(value[-1:]) if isinstance(value, list) else None,
)
def test_what_agents_could_not_run_is_refused(words: list[str], method: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s){says}"):
        describe(words, method, "maximize")
