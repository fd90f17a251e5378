"""The real command: a sweep over evaluations steals once, ``fmsteal evaluate`` measures what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.records.results import read_sweep
from tests.job.jobs import QUICK, read, thefts
from tests.job.killed import finish, start

VICTIM = "victim._target_=fmsteal.victims.classifier.ClassifierVictim"
JOB = (*QUICK, VICTIM)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over evaluations, as it ended."""
    root = tmp_path_factory.mktemp("evaluate")
    said = finish(start(root, "-m", *JOB, "sweep_id=two", "evaluation=classify,similarity"))
    (root / "said").write_text(said)
    return root


def only(folder: Path) -> Path:
    (found,) = folder.glob("*/result.json")
    return found


def stolen(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [p for p in (root / "outputs" / "thefts").glob("*/*") if p.is_file() and p.name != ".running.lease"]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.mark.slow
def test_a_sweep_over_evaluations_is_one_job_and_says_so(root: Path) -> None:
    sweep = root / "outputs" / "sweeps" / "two"
    result = read(only(sweep))
    assert len(result["measurements"]) == 2 and {"test/agreement", "test/cka"} <= set(result["metrics"])
    assert len(thefts(root / "outputs")) == 1 and len(read(sweep / "sweep.json")["jobs"]) == 1
    plan = finish(start(root, "-m", *JOB, "sweep_id=two", "evaluation=classify,similarity", "dry_run=true"))
    assert "1 job" in plan, plan


@pytest.mark.slow
def test_evaluate_measures_what_is_missing_of_a_sweep_and_of_runs(root: Path) -> None:
    before = stolen(root)
    said = finish(start(root, *JOB))
    assert "is stolen already: nothing is asked or trained" in said and "train thief" not in said, said
    run = only(root / "outputs" / "runs")
    assert len(read(run)["measurements"]) == 1
    for folder in ("outputs/sweeps/two", "outputs/runs"):
        said = finish(start(root, "evaluate", folder, "evaluation=similarity", "evaluation.k=3"))
        assert "train thief" not in said and "queries:" not in said, said
        result = read(only(root / folder))
        assert {"test/agreement@3", "test/agreement@5", "test/cka"} <= set(result["metrics"])
        assert result["cost"]["cost/queries"] == 100
    assert stolen(root) == before
    assert len(read_sweep(root / "outputs" / "sweeps" / "two").results) == 1
    finish(start(root, "results", "outputs/runs", "outputs/sweeps/two", "--csv", "all.csv"))
    assert "test/agreement@3" in (root / "all.csv").read_text()


@pytest.mark.slow
def test_force_makes_a_further_theft_and_the_old_result_still_reads(root: Path) -> None:
    before = stolen(root)
    said = finish(start(root, *JOB, "force=true"))
    assert "train thief" in said and len(thefts(root / "outputs")) == 2
    forced, kept = only(root / "outputs" / "runs"), only(root / "outputs" / "sweeps" / "two")
    assert read(forced)["theft"].endswith(".2") and not read(kept)["theft"].endswith(".2")
    assert stolen(root).items() >= before.items()
    for folder in (forced.parent, kept.parent):
        assert (folder / read(folder / "result.json")["theft"] / "thief.safetensors").exists()
    finish(start(root, "verify", "outputs/sweeps/two", "outputs/runs"))
    assert finish(start(root, *JOB)).count("is finished already") == 1
