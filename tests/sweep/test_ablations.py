"""The studies of sweeps/stolen_encoder as a dry run sees them: composed, checked, each job once, of one target."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fmsteal.base import paths
from tests.sweep.of_sweeps import grid

FOLDER = paths.folder("sweeps")
ABLATIONS = sorted(f"stolen_encoder/{file.stem}" for file in (FOLDER / "stolen_encoder").glob("*.yaml"))


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ABLATIONS), "encoders_ablation_mini"]
)
def test_a_study_has_the_jobs_that_it_says_of_one_target(name: str) -> None:
    swept = OmegaConf.load(FOLDER / f"{name}.yaml").hydra.sweeper.params
    axes = [f"{axis}={values}" for axis, values in swept.items() if axis != "seed"]
    pool = [] if "query" in swept else ["query=procedural"]  # ImageNet has to be somewhere
    found = grid(f"sweep={name}", *pool, *axes, "tracker=none", "seed=0")
    jobs = 1
    for axis in axes:
        jobs *= len(axis.split(","))
    assert (len(found.jobs), len({job.victim for job in found.jobs}), found.merged) == (jobs, 1, "")
