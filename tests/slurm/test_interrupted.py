"""Jobs that Slurm takes off their node in mid-training: they go on in the same folder, to the same result."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import finish
from tests.support.composing import SMALL
from tests.support.outputs import in_thief_training, theft_of_job
from tests.support.slurm_cluster import Cluster
from tests.support.slurm_sweeps import is_alive, run_here, start_cold, until, worker
from tests.support.wandb_file import offline_runs

EPOCHS = 6
JOB = (
    *SMALL, "budget.queries=200", "victim.recipe.epochs=1", f"thief.recipe.epochs={EPOCHS}", "thief.recipe.min_steps=0",
    "trainer.checkpoint_seconds=0", "trainer.callbacks=[{_target_:tests.support.pause.Pause}]", "sweep_id=one",
    "tracker=wandb", "tracker.mode=offline",
)  # fmt: skip


def folder(root: Path) -> Path:
    (found,) = (p.parent for p in root.glob("outputs/sweeps/one/*/.hydra"))
    return found


def begin(cluster: Cluster, root: Path, *words: str, victim_of: Path | None = None) -> subprocess.Popen[str]:
    """Begin the sweep, whose thief stays in its second epoch; with the victim of another, if that is given."""
    for name in ("victims", "prepared") if victim_of else ():
        shutil.copytree(f"{victim_of}/outputs/cache/{name}", root / "outputs" / "cache" / name)
    return start_cold(cluster, root, *JOB, *words, PAUSE_UNTIL=str(root / "go"), PAUSE_FROM="1")


def until_it_stays(root: Path, sweep: subprocess.Popen[str]) -> int:
    """Wait until the thief stays in its second epoch, the first is kept; the process that trains it."""
    until(lambda: trained(root)["thief"] >= 2 and in_thief_training(root), sweep)
    return worker(folder(root))


def let_go(root: Path, process: int, sweep: subprocess.Popen[str]) -> None:
    """Once the process is gone, have the next one not stay."""
    until(lambda: not is_alive(process), sweep)
    (root / "go").touch()


def trained(root: Path) -> Counter[str]:
    """How many epochs of each model were trained, those trained again included."""
    trace = root / "trace"
    return Counter(line.split()[0] for line in trace.read_text().splitlines()) if trace.exists() else Counter()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    run_here(root, *JOB)
    return root


def assert_as_if_nothing_had_happened(root: Path, undisturbed: Path, interruptions: int) -> None:
    ours, theirs = folder(root), folder(undisturbed)
    assert ours.name == theirs.name and not (ours / "failure.json").exists()
    thefts = [theft_of_job(job) for job in (ours, theirs)]
    for name in ("ledger", "thief", "curves", "begun"):
        files: list[Path] = [getattr(theft, name) for theft in thefts]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    seals = [json.loads(theft.seal.read_text()) for theft in thefts]
    assert seals[0]["files"] == seals[1]["files"] and seals[0]["ledger"] == seals[1]["ledger"]
    assert not thefts[0].work.exists() and not (ours / "waiting.json").exists() and not (ours / "theft.txt").exists()
    results = [json.loads((f / "result.json").read_text()) for f in (ours, theirs)]
    assert results[0]["metrics"] == results[1]["metrics"] and results[0]["intervals"] == results[1]["intervals"]
    costs = [{k: v for k, v in result["cost"].items() if k != "cost/seconds"} for result in results]
    assert costs[0] == costs[1] and costs[0]["cost/queries"] == costs[0]["cost/victim_forwards"] == 200  # once each
    for name, value in np.load(theirs / "predictions.npz").items():
        np.testing.assert_array_equal(np.load(ours / "predictions.npz")[name], value, err_msg=name)
    assert EPOCHS <= trained(root)["thief"] <= EPOCHS + interruptions  # an epoch is lost each time, at most
    runs = offline_runs(ours)
    whole = runs[-1]
    assert len(runs) >= 1 + interruptions and len({r.run.run_id for r in runs if r.run is not None}) == 1
    assert whole.exit_code == 0
    assert {x for x, _ in whole.curve("thief/epoch", "thief/loss")} == set(range(1, EPOCHS + 1))
    points = [line.rpartition(",")[0] for line in (ours / "metrics.csv").read_text().splitlines()]
    assert len(points) == len(set(points))


def test_queued_again_by_the_administrator(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """With SIGTERM, which submitit bypasses, and a kill some seconds later."""
    sweep = begin(cluster, tmp_path)
    process = until_it_stays(tmp_path, sweep)
    (job,) = cluster.queue()
    cluster.ask("scontrol", "requeue", job)
    let_go(tmp_path, process, sweep)
    finish(sweep)
    assert_as_if_nothing_had_happened(tmp_path, undisturbed, 1)


def test_preempted_by_a_more_urgent_job(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """Slurm sends SIGTERM, waits a while (the partition's GraceTime), kills the job and queues it again."""
    sweep = begin(cluster, tmp_path, victim_of=undisturbed)
    process = until_it_stays(tmp_path, sweep)
    (job,) = cluster.queue()
    cluster.ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    let_go(tmp_path, process, sweep)
    finish(sweep)
    log = "\n".join(p.read_text() for p in tmp_path.glob("outputs/sweeps/one/.submitit/*/*_log.out"))
    assert "Bypassing signal SIGTERM" in log and job in log
    assert_as_if_nothing_had_happened(tmp_path, undisturbed, 1)


def test_out_of_time(cluster: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """Slurm's shortest limit is a minute, which it looks at every half; submitit queues the job again when warned."""
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1", "hydra.launcher.max_num_timeout=9")
    sweep = begin(cluster, tmp_path, *limit)
    let_go(tmp_path, until_it_stays(tmp_path, sweep), sweep)
    finish(sweep)
    logs = sorted(tmp_path.glob("outputs/sweeps/one/.submitit/*/*_log.out"), key=lambda p: int(p.parent.name))
    victim, thief = (p.read_text() for p in logs)  # where starting takes long, the victim's job is out of time as well
    warned = len(re.findall(r"^submitit INFO .*Requeued job", thief, flags=re.MULTILINE))
    assert warned >= 1 and "Caught signal SIGUSR2" in thief, thief
    for log in (victim, thief):
        assert len(re.findall(r"^submitit INFO .*Job completed successfully", log, flags=re.MULTILINE)) == 1, log
    assert_as_if_nothing_had_happened(tmp_path, undisturbed, warned)
    *stopped, whole = offline_runs(folder(tmp_path))
    assert any(run.preempting for run in stopped) and not whole.preempting


def kill_all_of(job: str) -> None:
    """Kill a job's processes at once, and Slurm's own that watch over them, so that nobody reports its end."""
    subprocess.run(["pkill", "-KILL", "-f", rf"slurmstepd: \[{job}\."], check=True)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"SLURM_JOB_ID={job}".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if ours and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


def test_preempted_where_slurm_warns_first(two_nodes: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    """SIGUSR2, as before the time limit: W&B's run is closed, and marked, before any process is told to end."""
    sweep = begin(two_nodes, tmp_path, victim_of=undisturbed)
    process = until_it_stays(tmp_path, sweep)
    (node,) = two_nodes.queue("%N")
    urgent = ("--partition=urgent", "--exclusive", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1")
    two_nodes.ask("sbatch", *urgent)
    let_go(tmp_path, process, sweep)
    finish(sweep)
    log = "\n".join(p.read_text() for p in tmp_path.glob("outputs/sweeps/one/.submitit/*/*_log.out"))
    assert "Caught signal SIGUSR2" in log
    assert_as_if_nothing_had_happened(tmp_path, undisturbed, 1)
    stopped, whole = offline_runs(folder(tmp_path))
    assert stopped.preempting and not whole.preempting


def test_a_job_outlives_its_node(two_nodes: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    sweep = begin(two_nodes, tmp_path, victim_of=undisturbed)
    process = until_it_stays(tmp_path, sweep)
    (node,) = two_nodes.queue("%N")
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    (number,) = [v.decode().partition("=")[2] for v in variables if v.startswith(b"SLURM_JOB_ID=")]
    two_nodes.nodes[node].kill()
    kill_all_of(number)
    let_go(tmp_path, process, sweep)
    said = finish(sweep)
    assert "one: 1 of 1 jobs" in said
    states = dict(line.split() for line in two_nodes.ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines())
    assert states[node].startswith("down"), states
    assert_as_if_nothing_had_happened(tmp_path, undisturbed, 1)
