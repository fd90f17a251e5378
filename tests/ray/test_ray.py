"""Sweeps on a real Ray, of our own or running already: jobs that fail, a worker and a node that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.records.folders import TheftFolder
from fmsteal.sweep import launchers
from tests.support.commands import Run, command, finish
from tests.support.composing import SMALL, composed
from tests.support.outputs import in_thief_training, theft_of_job
from tests.support.ray_cluster import parent, running_cluster
from tests.support.slurm_cluster import free_ports
from tests.support.slurm_sweeps import is_alive, run_here, surroundings, until, worker
from tests.support.warm import Command

pytest.importorskip("ray", reason="pip install -e '.[ray]'")
EPOCHS = 6
PAUSED = (
    *SMALL, "budget.queries=200", f"thief.recipe.epochs={EPOCHS}", "thief.recipe.min_steps=0", "victim.seed=0",
    "trainer.checkpoint_seconds=0", "trainer.callbacks=[{_target_:tests.support.pause.Pause}]",
)  # fmt: skip
ATTACKS = (
    "fmsteal.attacks.knockoff.Knockoff", "tests.support.misbehaving.Raises", "tests.ray.attacks.Exits",
    "tests.ray.attacks.Killed",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shared by the tests of this module."""
    return f"cache={tmp_path_factory.mktemp('cache')}"


def start(root: Path, *words: str, **variables: str) -> Command:
    """Begin a sweep whose jobs Ray runs, by a warm command."""
    return Command(("-m", "hydra/launcher=ray", *words, "sweep_id=mine"), root, surroundings(root) | variables, True)


def start_cold(root: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """The same by a process that imports everything itself."""
    return subprocess.Popen(
        command("-m", "hydra/launcher=ray", *words, "sweep_id=mine"),
        cwd=root,
        env={**surroundings(root), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def jobs(root: Path) -> list[Path]:
    """The folders of the jobs, by seed."""
    return sorted(p.parent for p in root.glob("outputs/sweeps/mine/*/.hydra"))


def in_training(job: Path) -> bool:
    """Whether a job's thief has a checkpoint."""
    thefts = [theft.path for theft in in_thief_training(job.parents[3])]
    return (job / "theft.txt").exists() and theft_of_job(job).path.resolve() in thefts


def only_with_result(root: Path) -> TheftFolder:
    """The theft of the one job that was finished."""
    (result,) = root.glob("outputs/sweeps/mine/*/result.json")
    return theft_of_job(result.parent)


def test_however_a_job_ends_the_others_run_and_the_sweep_tells(tmp_path: Path, cache: str) -> None:
    """Four jobs, two at once with half a core each: one raises, one exits, one is killed twice, one is well."""
    room = ("hydra.launcher.own.num_cpus=1", "hydra.launcher.num_cpus=0.5", "hydra.launcher.max_retries=1")
    words = (*SMALL, *room, cache, "victim.seed=0", f"attack._target_={','.join(ATTACKS)}")
    said = finish(start(tmp_path, *words), ok=False)
    done = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/sweeps/mine/*/result.json")]
    assert [r["settings"]["attack.name"] for r in done] == ["knockoff"]
    assert "3 of 4 jobs have no result" in said and "continue with: fmsteal -m hydra/launcher=ray" in said
    assert "it failed after 100 queries" in said and "SystemExit: 3" in said
    assert "The worker died unexpectedly" in said and "There are 1 retries remaining" in said
    assert "There are 0 retries remaining" not in said

    evaluate = ("evaluate", "outputs/sweeps/mine", "hydra/launcher=ray", *room, cache, "evaluation=similarity")
    ledger = only_with_result(tmp_path).ledger
    before = ledger.read_bytes(), ledger.stat().st_mtime_ns
    told = finish(Command(evaluate, tmp_path, surroundings(tmp_path), joined=True))
    assert "3 jobs are left out: their theft is not finished" in told, told
    (result,) = (json.loads(p.read_text()) for p in tmp_path.glob("outputs/sweeps/mine/*/result.json"))
    assert result["metrics"].items() >= done[0]["metrics"].items() and "test/cka" in result["metrics"]
    assert (ledger.read_bytes(), ledger.stat().st_mtime_ns) == before


def test_two_jobs_share_a_gpu(tmp_path: Path, cache: str) -> None:
    """One that Ray only believes to be there, which is the same to it. A third waits; a victim has it alone."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    room = ("own.num_gpus=1", "own.num_cpus=2", "num_cpus=0.5", "victims.num_gpus=1", "thefts.num_gpus=0.5")
    words = (*SMALL, cache, "victim.seed=0", "seed=0,1,2", "attack._target_=tests.ray.attacks.Meets")
    options = [f"hydra.launcher.{word}" for word in room]
    said = finish(start(tmp_path, *words, *options, MEETING=str(meeting)))
    assert "mine: 3 of 3 jobs" in said
    stays = sorted((came, went, gpu) for gpu, came, went in (p.read_text().split() for p in meeting.iterdir()))
    assert [gpu for *_, gpu in stays] == ["0", "0", "0"]
    assert float(stays[2][0]) > min(float(went) for _, went, _ in stays[:2]), "three at once on one GPU"


def test_a_job_that_takes_all_memory_is_killed_and_the_others_run(tmp_path: Path, cache: str) -> None:
    """By Ray, before the kernel would; twice, then it counts as failed. What counts is the machine's free memory."""
    most = 6  # GiB
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {name.rstrip(":"): int(size) for name, size, *_ in lines}
    if kib["MemAvailable"] < 2 * most * 2**20:
        pytest.skip(f"needs {2 * most} GiB of free memory")
    limit = 1 - (kib["MemAvailable"] - most / 2 * 2**20) / kib["MemTotal"]
    options = ("own.num_cpus=1", "num_cpus=1", f"environment.RAY_memory_usage_threshold='{limit:.3f}'")
    words = (*SMALL, cache, "victim.seed=0", f"attack._target_=tests.ray.attacks.Greedy,{ATTACKS[0]}")
    room = (*[f"hydra.launcher.{word}" for word in options], "hydra.launcher.environment.RAY_task_oom_retries='1'")
    said = finish(start(tmp_path, *words, *room, GREED=str(most), BEGUN=str(tmp_path / "begun")), ok=False)
    assert "1 of 2 jobs have no result" in said and "OutOfMemory" in said and "nobody minded" not in said, said
    assert (tmp_path / "begun").read_text().split() == ["greedy"] * 2


def test_on_a_cluster_a_job_outlives_its_worker_and_its_node(tmp_path: Path, cache: str) -> None:
    """Of two jobs on two nodes one's worker is killed in mid-training, then the other's node."""
    (tmp_path / "nodes").mkdir()
    with running_cluster(tmp_path / "nodes") as cluster:
        here = tmp_path / "here"
        here.mkdir()
        words = (*PAUSED, cache, "seed=0,1", f"hydra.launcher.address={cluster.address}", "hydra.launcher.num_cpus=1")
        go = here / "go"  # the thieves stay in their second epoch until it is there
        sweep = start_cold(here, *words, PAUSE_UNTIL=str(go), PAUSE_FROM="1")
        until(lambda: len([j for j in jobs(here) if in_training(j)]) == 2, sweep)
        (lost,) = [j for j in jobs(here) if parent(worker(j)) == cluster.second]
        (other,) = [j for j in jobs(here) if j != lost]
        paid = {job: theft_of_job(job).ledger.read_bytes() for job in jobs(here)}
        process = worker(lost)
        os.kill(worker(other), signal.SIGKILL)
        os.kill(cluster.second, signal.SIGKILL)
        until(lambda: not is_alive(process), sweep)
        go.touch()
        said = finish(sweep)
        assert "mine: 2 of 2 jobs" in said and said.count("There are 3 retries remaining") >= 1
        assert not list((tmp_path / "nodes").glob("outputs"))
    trained = (here / "trace").read_text().splitlines()
    assert 2 * EPOCHS <= sum(line.startswith("thief ") for line in trained) <= 2 * EPOCHS + 2  # an epoch lost each time
    alone = tmp_path / "alone"
    alone.mkdir()
    run_here(alone, *PAUSED, cache, "seed=0,1", "sweep_id=mine")
    for ours, theirs in zip(jobs(here), jobs(alone), strict=True):
        assert ours.name == theirs.name and theft_of_job(ours).ledger.read_bytes() == paid[ours]
        assert theft_of_job(ours).ledger.read_bytes() == theft_of_job(theirs).ledger.read_bytes()
        results = [json.loads((job / "result.json").read_text()) for job in (ours, theirs)]
        assert results[0]["metrics"] == results[1]["metrics"]
        for name, value in np.load(theirs / "predictions.npz").items():
            np.testing.assert_array_equal(np.load(ours / "predictions.npz")[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("address=127.0.0.1:{free}",), "cannot use the Ray cluster at '127.0.0.1:"),
        (("address=nonsense",), "Invalid address format"),
        (("num_gpus=0.25", "own.num_cpus=1", "num_cpus=1"), "No node of the Ray cluster has what each job asks for"),
        (("thefts.num_gpus=0.25", "own.num_cpus=1", "num_cpus=1"), "asks for: CPU 1, GPU 0.25"),
        (("+victims.address=auto",), "hydra.launcher.victims has no option 'address'"),
        (("+resources.a100=1", "own.num_cpus=1", "num_cpus=1"), "a100 1 (hydra.launcher"),
        (("num_gpus=1.5",), "num_gpus"),
        (("max_retries=often",), "hydra.launcher.max_retries=often"),
        (("+own.bogus=1",), "bogus"),
    ],
)
def test_what_cannot_work_is_said_before_any_job_runs(
    words: tuple[str, ...], answer: str, fmsteal: Run, tmp_path: Path
) -> None:
    (free,) = free_ports(1)
    options = [f"{'+' * (w[0] == '+')}hydra.launcher.{w.lstrip('+').format(free=free)}" for w in words]
    done = fmsteal("-m", *SMALL, "seed=0,1", "hydra/launcher=ray", *options, ok=False)
    assert done.returncode == 1 and answer in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "outputs").exists()


def test_the_presets_options_are_the_launchers() -> None:
    preset = composed("hydra/launcher=ray").hydra.launcher
    from fmsteal.sweep.on_ray import Options

    assert set(preset) - {"_target_"} == set(vars(Options()))
    with pytest.raises(ConfigError, match=r"no option 'num_gpu'.*num_gpus"):
        launchers.make_ready(composed("hydra/launcher=ray", "+hydra.launcher.num_gpu=1").hydra.launcher)
