"""Multiruns: every combination, a table with intervals, one failure does not hide the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import SMALL, SMOKE, Run
from tests.wandb_file import offline_runs


def results(root: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("outputs/sweeps/*/*/result.json"))]


def test_a_sweep_runs_every_combination_and_again_runs_none(fmsteal: Run, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "tracker=wandb", "defense=none,hard_label", "seed=0,1", "sweep_id=mine")
    done = fmsteal(*sweep)
    assert len(results(tmp_path)) == 4
    assert "mine: 4 of 4 jobs" in done.stdout and "hard_label" in done.stdout and " to " in done.stdout
    runs = offline_runs(tmp_path / "outputs" / "sweeps" / "mine")
    assert [r.exit_code for r in runs] == [0] * 4
    assert len({r.run.run_id for r in runs}) == 4 and {r.run.run_group for r in runs} == {"mine"}
    assert sorted(r.summary["test/agreement"] for r in runs) == sorted(
        r["metrics"]["test/agreement"]
        for r in results(tmp_path)  # type: ignore[index]
    )
    again = fmsteal(*sweep)
    assert (again.stdout + again.stderr).count("is finished already") == 4 and "mine: 4 of 4 jobs" in again.stdout


def test_one_failing_job_leaves_the_others_and_the_sweep_ends_non_zero(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal("-m", *SMALL, "budget.queries=50,400,60", ok=False)
    assert len(results(tmp_path)) == 2
    assert "1 of 3 jobs without a result" in done.stdout and "the query set holds 300" in done.stdout


def test_a_wrong_option_in_one_combination_runs_no_job(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal("-m", *SMALL, "seed=0,1", "+attack.bogus=1", ok=False)
    assert "has no option 'bogus'" in done.stderr and not (tmp_path / "outputs").exists()


def test_missing_weights_in_one_combination_run_no_job(fmsteal: Run, tmp_path: Path) -> None:
    absent = "thief.backbone.weights=/absent/weights.pth"
    done = fmsteal("-m", *SMOKE, "victim=resnet10t", "thief=efficientnet_lite0,resnet18", absent, ok=False)
    assert "There is no weights file /absent/weights.pth" in done.stderr and not (tmp_path / "outputs").exists()


def test_jobs_in_worker_processes_are_jobs_like_any_other(fmsteal: Run, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    fmsteal("-m", *SMALL, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "victim.seed=0")
    found = results(tmp_path)
    assert len(found) == 2 and len(list((tmp_path / "outputs" / "cache" / "victims").iterdir())) == 1
    for result in found:
        assert str(result["command"]).startswith("fmsteal experiment=smoke")
        assert f"seed={result['axis']['seed']}" in str(result["command"])  # type: ignore[index]


def test_a_swept_field_makes_rows_of_its_own(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal("-m", *SMALL, "defense=top_k", "defense.k=1,5", "sweep_id=k")
    assert "defense.k" in done.stdout and done.stdout.count("one seed") == 2
