"""Sweeps on a real Slurm: all jobs done, some dead, an array cancelled; and what is refused before any job runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.commands import finish
from tests.support.composing import SMALL
from tests.support.slurm_cluster import Cluster, wait_for
from tests.support.slurm_sweeps import start, start_cold, until

IMPATIENT = "tests.support.impatient"
PAUSED = "trainer.callbacks=[{_target_:tests.support.pause.Pause}]"


def results(root: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("outputs/sweeps/mine/*/result.json"))]


def test_a_sweep_goes_through_and_again_runs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    sweep = (*SMALL, "defense=none,hard_label", "sweep_id=mine")
    assert "mine: 2 of 2 jobs" in finish(start_cold(cluster, tmp_path, *sweep))
    assert len(results(tmp_path)) == 2
    wait_for(lambda: not cluster.queue(), cluster, [])  # Slurm lists a job until it has tidied up after it
    assert len(list((tmp_path / "outputs" / "cache" / "victims").iterdir())) == 1
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")}
    assert "mine: 2 of 2 jobs" in finish(start(cluster, tmp_path, *sweep))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")} == before


def test_failing_and_killed_jobs_leave_the_others(cluster: Cluster, tmp_path: Path) -> None:
    """Two have a bug in their attack, one is killed as by the kernel when memory is out, one is well."""
    attacks = "attack._target_=fmsteal.attacks.knockoff.Knockoff,tests.support.misbehaving.Raises"
    words = (*SMALL, PAUSED, attacks, "seed=0,1", "victim.seed=0", "sweep_id=mine")
    go = tmp_path / "go"  # the thieves wait for it
    sweep = start_cold(cluster, tmp_path, *words, module=IMPATIENT, PAUSE_UNTIL=str(go))
    until(lambda: list(tmp_path.glob("outputs/thefts/*/work/cost.json")), sweep)
    (array,) = {job.partition("_")[0] for job in cluster.queue()}
    cluster.ask("scancel", "--signal=KILL", f"{array}_0")
    until(lambda: f"{array}_0" not in cluster.queue(), sweep)
    go.touch()
    said = finish(sweep, ok=False)
    assert [r["axis"]["seed"] for r in results(tmp_path)] == [1]  # type: ignore[index]
    assert "3 of 4 jobs" in said and "it failed after 100 queries" in said and "ended without a result" in said


def test_a_cancelled_array_is_continued_by_the_same_command(cluster: Cluster, tmp_path: Path) -> None:
    """The victim's job and those after it have limits of their own."""
    stages = ("hydra.launcher.victims.timeout_min=30", "hydra.launcher.thefts.timeout_min=20")
    room = ("hydra.launcher.array_parallelism=2", *stages)
    words = (*SMALL, PAUSED, "seed=0,1,2", "victim.seed=0", "sweep_id=mine", *room)
    sweep = start_cold(cluster, tmp_path, *words, module=IMPATIENT, PAUSE_SECONDS="1")
    until(lambda: results(tmp_path), sweep)
    (array,) = {job.partition("_")[0] for job in cluster.queue()}
    cluster.ask("scancel", array)
    said = finish(sweep, ok=False)
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")}
    assert 1 <= len(done) < 3 and "ended without a result" in said
    finish(start(cluster, tmp_path, *words))
    assert sorted(r["axis"]["seed"] for r in results(tmp_path)) == [0, 1, 2]  # type: ignore[index]
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    assert len(list((tmp_path / "outputs" / "cache" / "victims").iterdir())) == 1
    scripts = sorted(tmp_path.glob("outputs/sweeps/mine/.submitit/**/*_submission.sh"), key=lambda p: p.stat().st_mtime)
    assert [re.findall(r"--time=(\d+)", p.read_text()) for p in scripts] == [["30"], ["20"], ["20"]]


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("hydra.launcher.partition=absent", "There are the partitions main, urgent"),
        ("hydra.launcher.thefts.partition=absent", "There are the partitions main, urgent"),
        ("+hydra.launcher.additional_parameters.dependency=afterok:999999", "Slurm does not know the job 999999"),
        ("hydra.launcher.gpus_per_node=1", "On a cluster without GPUs: hydra.launcher.gpus_per_node=null"),
        ("hydra.launcher.cpus_per_task=99", "Slurm would not take a job with"),
        ("hydra.launcher.timeout_min=soon", "hydra.launcher.timeout_min=soon"),
    ],
)
def test_what_slurm_refuses_runs_no_job(option: str, answer: str, cluster: Cluster, tmp_path: Path) -> None:
    said = finish(start(cluster, tmp_path, *SMALL, "seed=0,1", option), ok=False)
    assert answer in said and "Traceback" not in said
    assert not (tmp_path / "outputs").exists() and not cluster.queue()
