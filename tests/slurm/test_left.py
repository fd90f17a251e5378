"""Sweeps left in the queue of a real Slurm: followed, ended and continued by other processes than the one that left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

from fmsteal.records.queued import Queued
from tests.support.commands import command, finish
from tests.support.composing import SMALL
from tests.support.slurm_cluster import Cluster, wait_for
from tests.support.slurm_sweeps import LAUNCHER, begin, start, surroundings
from tests.support.stopping.cold import hear_terminal

PAUSED = "trainer.callbacks=[{_target_:tests.support.pause.Pause}]"
LEFT = (*LAUNCHER, "hydra.launcher.wait=false")
SWEEP = (*SMALL, PAUSED, "victim.seed=0,1", "defense=none,hard_label", "sweep_id=mine")
WHERE = "outputs/sweeps/mine"


def ask(cluster: Cluster, root: Path, *words: str, ok: bool = True) -> str:
    return finish(begin(cluster, root, *words), ok)


def leave(cluster: Cluster, root: Path, *words: str, ok: bool = True, **variables: str) -> str:
    return finish(begin(cluster, root, "-m", *LEFT, *words, **variables), ok)


def results(root: Path) -> list[Path]:
    return sorted(root.glob(f"{WHERE}/*/result.json"))


def epochs(root: Path, of: str) -> Counter[str]:
    """How often each epoch was trained, of trainings whose names begin with ``of``."""
    return Counter(line for line in (root / "trace").read_text().splitlines() if line.startswith(of))


def limits(cluster: Cluster) -> set[str]:
    """The array of each job in the queue, with its time limit."""
    return set(cluster.queue("%F:%l"))


def test_cancelled_continued_and_left_by_a_shell_that_is_hung_up(cluster: Cluster, tmp_path: Path) -> None:
    """One array of victims, then one of thefts for each; another command adds nothing to them."""
    stages = ("hydra.launcher.victims.timeout_min=30", "hydra.launcher.thefts.timeout_min=20")
    said = leave(cluster, tmp_path, *SWEEP, *stages, PAUSE_SECONDS="600")
    assert "victims: 2 jobs are submitted" in said and "thefts: 4 jobs are submitted" in said
    victims, *thefts = (array.id for array in Queued.read(tmp_path / WHERE).arrays)
    assert len(thefts) == 2
    assert limits(cluster) == {f"{victims}:30:00", *(f"{theft}:20:00" for theft in thefts)}
    wait_for(lambda: cluster.queue("%r").count("Dependency") == 4, cluster, [])  # once Slurm has looked at them
    assert "4 queued" in ask(cluster, tmp_path, "status", WHERE)
    assert "cancelled 6 jobs" in ask(cluster, tmp_path, "cancel", WHERE)
    gone = begin(cluster, tmp_path, "status", WHERE, "--watch", "--every=1")  # until none is in the queue
    assert "by fmsteal cancel" in finish(gone)

    words = command("-m", *LEFT, *SWEEP, *stages)
    go = tmp_path / "go"  # the thieves wait for it
    environment = {**surroundings(tmp_path), **cluster.environment, "PAUSE_UNTIL": str(go)}
    shell = subprocess.Popen(
        ["bash", "-c", '"$@"; echo "left with $?"; sleep 600', "bash", *words],
        cwd=tmp_path, env=environment, start_new_session=True, preexec_fn=hear_terminal,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert shell.stdout is not None
    lines = list(iter(shell.stdout.readline, "left with 0\n"))
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait(30) == -signal.SIGHUP and f"follow: fmsteal status {WHERE} --watch\n" in lines
    assert len(Queued.read(tmp_path / WHERE).arrays) == 6 and not results(tmp_path)

    again = leave(cluster, tmp_path, *SWEEP, *stages)
    assert "are submitted" not in again and "already" in again
    refused = finish(start(cluster, tmp_path, *SWEEP), ok=False)
    assert "in Slurm's queue (arrays" in refused and "fmsteal cancel outputs/sweeps/mine" in refused
    go.touch()
    assert "mine: 4 jobs: 4 done" in ask(cluster, tmp_path, "status", WHERE, "--watch", "--every=1")
    assert len(results(tmp_path)) == 4 and epochs(tmp_path, "thief") == {"thief 0": 4}
    assert set(epochs(tmp_path, "test_resnet-").values()) == {1}  # each victim's once
    assert "nothing is left to do" in leave(cluster, tmp_path, *SWEEP, *stages)
    assert "nothing to cancel" in ask(cluster, tmp_path, "cancel", WHERE)


def test_the_thefts_of_a_victim_that_fails_are_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    """Jobs are started by another Python, after lines of the user's; the same command submits what was cancelled."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$SETUP_LINE" >> {tmp_path}/started\nexec {command()[0]} "$@"\n')
    python.chmod(0o755)
    how = (
        f"hydra.launcher.python={python}", "hydra.launcher.setup=['export SETUP_LINE=set-up']",
        "hydra.launcher.srun_args=['--job-name=renamed']",
    )  # fmt: skip
    leave(cluster, tmp_path, *SWEEP, *how, PAUSE_FAILS="-scratch-s1-")
    said = ask(cluster, tmp_path, "status", WHERE, "--watch", "--every=1")
    (last,) = [line for line in said.splitlines() if line.startswith("mine: ")][-1:]
    assert last == "mine: 5 jobs: 2 done, 1 failed, 2 cancelled", said
    assert "a bug in this training" in said and "cancelled: 2 jobs, by Slurm, as their victim failed" in said
    assert len(results(tmp_path)) == 2
    assert (tmp_path / "started").read_text().split() == ["set-up"] * 4
    again = leave(cluster, tmp_path, *SWEEP, *how, PAUSE_SECONDS="600")
    assert "victims: 1 job is submitted" in again and "thefts: 2 jobs are submitted" in again
    assert "cancelled 3 jobs" in ask(cluster, tmp_path, "cancel", WHERE)


REFUSES = """#!/bin/sh
if [ "$1" = --test-only ] || mkdir {mark} 2> {mark}.log; then exec {sbatch} "$@"; fi
echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
exit 1
"""


def test_what_slurm_has_taken_is_recorded_where_it_refuses_more(cluster: Cluster, tmp_path: Path) -> None:
    """As where a user may have so many jobs in the queue: the victims are taken, their thefts are not."""
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("sbatch", path=cluster.environment["PATH"])
    (programs / "sbatch").write_text(REFUSES.format(sbatch=real, mark=tmp_path / "once"))
    (programs / "sbatch").chmod(0o755)
    path = f"{programs}:{cluster.environment['PATH']}"
    said = leave(cluster, tmp_path, *SWEEP, ok=False, PATH=path, PAUSE_SECONDS="600")
    assert "Slurm took 2 of 6 jobs and refused others" in said and "QOS policy. The same command" in said
    (array,) = Queued.read(tmp_path / WHERE).arrays
    assert {job.partition("_")[0] for job in cluster.queue()} == {array.id}
    assert "cancelled 2 jobs" in ask(cluster, tmp_path, "cancel", WHERE)
