"""Jobs and sweeps in cold processes, told to end wherever they are; what is there is whole, and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from fmsteal.base.lease import is_held
from tests.support.commands import command, environment, finish
from tests.support.outputs import only_run
from tests.support.stopping.cold import CODES, PLACES, ROOT, WORDS, Cold, hear_terminal
from tests.support.stopping.stopped import OFFLINE, SWEEP, assert_stopped
from tests.support.wandb_file import offline_runs


def everywhere(*quick: str, numbers: tuple[int, int]) -> list[ParameterSet]:
    """Each place with one of two signals by turns; all but the quick ones are slow tests."""
    return [
        pytest.param(place, numbers[nth % 2], marks=() if place in quick else pytest.mark.slow)
        for nth, place in enumerate(PLACES)
    ]


@pytest.mark.parametrize(("place", "number"), everywhere(numbers=(signal.SIGTERM, signal.SIGINT)))
def test_a_job_is_cut_off_and_goes_on(place: str, number: int, tmp_path: Path) -> None:
    words = (*WORDS, *OFFLINE)
    again = assert_stopped(Cold(tmp_path, *words, place=place), tmp_path, number, terminal=number == signal.SIGINT)
    assert again == ["fmsteal", *words]
    if place == "composing":
        assert not (tmp_path / "outputs").exists()
        return
    folder = only_run(tmp_path)
    assert not is_held(folder / ".running") and "cut off: stopped by" in (folder / "fmsteal.log").read_text()
    (run,) = offline_runs(folder)
    assert run.exit_code == 1  # it was closed
    if place == "measuring":
        before = [p.read_bytes() for p in tmp_path.glob("outputs/thefts/*/ledger.bin")]
        finish(Cold(tmp_path, *again[1:]).process)
        assert json.loads((folder / "result.json").read_text())["cost"]["cost/queries"] == 20
        assert before == [p.read_bytes() for p in tmp_path.glob("outputs/thefts/*/ledger.bin")] and before


@pytest.mark.parametrize(("place", "number"), everywhere("querying", numbers=(signal.SIGINT, signal.SIGTERM)))
def test_a_sweep_ends_at_once_and_begins_no_other_job(place: str, number: int, tmp_path: Path) -> None:
    again = assert_stopped(Cold(tmp_path, *SWEEP, place=place), tmp_path, number)
    assert again == ["fmsteal", *SWEEP]
    thieves = len(list(tmp_path.glob("outputs/sweeps/mine/*/.hydra")))
    assert thieves == (place not in ("composing", "training victim"))
    if thieves:
        watched = subprocess.run(  # there is no command any more that would begin the other job
            command("status", "outputs/sweeps/mine", "--watch"), cwd=tmp_path, env=environment(), text=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert "1 killed, 1 missing" in watched.stdout and "cut off" in watched.stdout, watched
        assert "what is left is done by" in watched.stdout


@pytest.mark.slow
def test_one_watches_as_long_as_a_command_runs_the_sweep(tmp_path: Path) -> None:
    sweep = Cold(tmp_path, *SWEEP, place="querying")
    sweep.until_held()
    watch = subprocess.Popen(
        command("status", "outputs/sweeps/mine", "--watch", "--every=0.1"), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2)
    assert watch.poll() is None
    sweep.process.send_signal(signal.SIGKILL)
    assert "1 killed, 1 missing" in watch.communicate(timeout=60)[0] and watch.returncode == 0
    sweep.process.communicate()


@pytest.mark.slow
def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    """A job that swallows the first."""
    cold = Cold(tmp_path, *SWEEP, place="querying", HOW="deaf")
    cold.until_held()
    cold.process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    again = assert_stopped(cold, tmp_path, signal.SIGINT)
    assert again == ["fmsteal", *SWEEP]


@pytest.mark.slow
def test_all_processes_that_train_together_end(tmp_path: Path) -> None:
    cold = Cold(tmp_path, *WORDS, "trainer.lightning.devices=2", place="training victim")
    assert cold.until_held() != cold.process.pid
    assert_stopped(cold, tmp_path, signal.SIGTERM)


def test_commands_that_only_read_end_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"schema": 2, "jobs": {"a": {}}}))
    (tmp_path / ".command-a.lease").write_text("somebody")  # a command of another machine
    words = command("status", str(tmp_path), "--watch", "--every=60")
    env = {**environment(), "PYTHONPATH": str(ROOT)}
    watching = {
        number: subprocess.Popen(
            words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear_terminal
        )
        for number in CODES
    }
    time.sleep(5)
    for number, watch in watching.items():
        watch.send_signal(number)
        assert watch.communicate(timeout=60)[1] == b"" and watch.returncode == CODES[number]


def test_nothing_heavy_is_imported_to_heed_a_signal() -> None:
    code = "import sys, fmsteal.__main__; print(sorted({'hydra', 'torch', 'omegaconf', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
