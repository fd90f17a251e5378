"""A search whose trials Slurm runs, two at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmsteal.base.store import read_json
from tests.support.commands import finish
from tests.support.composing import SMALL
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import start

pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
SEARCH = (
    *SMALL, "attack.validation=0.3", "hydra/sweeper=optuna", "metric=attack/held_out_agreement", "sweep_id=found",
    "thief.recipe.lr=tag(log,interval(1e-3,1e-1))", "hydra.sweeper.n_jobs=2",
)  # fmt: skip


def test_a_search_goes_through_and_on(cluster: Cluster, tmp_path: Path) -> None:
    said = finish(start(cluster, tmp_path, *SEARCH, "hydra.sweeper.n_trials=2"))
    assert "2 jobs are submitted to Slurm" in said and "The best of 2 trials" in said
    place = tmp_path / "outputs/sweeps/found"
    done = {file: file.stat().st_mtime_ns for file in place.glob("*/result.json")}
    assert len(done) == 2
    assert "The best of 3 trials" in finish(start(cluster, tmp_path, *SEARCH, "hydra.sweeper.n_trials=3"))
    after = {file: file.stat().st_mtime_ns for file in place.glob("*/result.json")}
    assert len(after) == 3 and done.items() <= after.items()
    best = OmegaConf.load(place / "optimization_results.yaml")
    figures = [read_json(file)["metrics"]["attack/held_out_agreement"] for file in after]
    assert best.best_value == pytest.approx(max(figures))
