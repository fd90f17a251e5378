"""Sweeps in worker processes: one that is killed, and code that is edited while jobs wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import checkout, spoil
from tests.support.commands import command, environment, finish
from tests.support.composing import SMALL
from tests.support.outputs import in_thief_training, theft_of_job
from tests.support.slurm_sweeps import surroundings, until, worker

pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install -e '.[joblib]'")
pytestmark = pytest.mark.slow
JOBLIB = ("-m", *SMALL, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "victim.seed=0", "sweep_id=mine")


def start(root: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*JOBLIB, *words),
        cwd=root,
        env={**environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_worker_ends_the_sweep_and_loses_nothing_that_is_finished(tmp_path: Path) -> None:
    paused = ("trainer.callbacks=[{_target_:tests.support.pause.Pause}]", "trainer.checkpoint_seconds=0", "seed=0,1,2")
    longer = ("thief.recipe.epochs=3",)
    variables, thefts = {**surroundings(tmp_path), "PAUSE_SECONDS": "1"}, tmp_path / "outputs" / "thefts"

    def done() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")}

    def in_training() -> list[Path]:
        training = [theft.path for theft in in_thief_training(tmp_path)]
        begun = [p.parent for p in tmp_path.glob("outputs/sweeps/mine/*/theft.txt")]
        return [job for job in begun if theft_of_job(job).path.resolve() in training]

    sweep = start(tmp_path, *paused, *longer, **variables)
    until(lambda: done() and in_training(), sweep)
    os.kill(worker(in_training()[0]), signal.SIGKILL)
    said = finish(sweep, ok=False)
    finished = done()
    assert 1 <= len(finished) < 3 and "The launcher gave up" in said
    assert f"{3 - len(finished)} of 3 jobs without a result" in said and "continue with: fmsteal -m" in said
    said = finish(start(tmp_path, *paused, *longer, **variables))
    assert "mine: 3 of 3 jobs" in said and f"{len(finished)} are finished already" in said
    assert {p: t for p, t in done().items() if p in finished} == finished
    seeds = [json.loads(p.read_text())["axis"]["seed"] for p in done()]
    assert sorted(seeds) == [0, 1, 2]

    stolen = {p: p.stat().st_mtime_ns for name in ("ledger.bin", "theft.json") for p in thefts.glob(f"*/{name}")}
    words = ("outputs/sweeps/mine", "evaluation=similarity", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    told = subprocess.run(
        command("evaluate", *words), cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0 and "mine: 3 of 3 jobs" in told.stdout, told
    assert all("test/cka" in json.loads(p.read_text())["metrics"] for p in done())
    assert len(stolen) == 6 and all(p.stat().st_mtime_ns == before for p, before in stolen.items())


@pytest.mark.parametrize("frozen", [True, False])
def test_jobs_run_the_code_as_it_was_when_the_sweep_began(frozen: bool, tmp_path: Path) -> None:
    """The checkout is edited before any job has begun; without the copy it is the edited code that runs."""
    root = tmp_path / "checkout"
    variables = checkout(root)
    sweep = start(root, "seed=0,1", f"hydra.sweeper.freeze={str(frozen).lower()}", **variables)
    until((root / "outputs" / "sweeps" / "mine" / "sweep.json").exists, sweep)
    spoil(root)
    said = finish(sweep, ok=frozen)
    assert ("this was edited" in said) != frozen
    if frozen:
        assert "mine: 2 of 2 jobs" in said and said.count("is launching") == 2
        assert len(list((root / "outputs" / "cache" / "victims").iterdir())) == 1
        for result in (json.loads(p.read_text()) for p in root.glob("outputs/sweeps/mine/*/result.json")):
            assert result["command"].startswith("fmsteal experiment=smoke")
            assert f"seed={result['axis']['seed']} " in result["command"] + " "
