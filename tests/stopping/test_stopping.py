"""Signals to a process that runs a small script as a command: what ends, in which way, and what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.stopping.cold import CODES, ROOT, hear_terminal, left_behind

BEGIN = """
import atexit, os, signal, subprocess, sys, threading, time
from pathlib import Path
from fmsteal.base import stopping
def ready():
    Path("ready").touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)
"""


class Script:
    """A running script, in a folder of its own."""

    def __init__(self, folder: Path, code: str, ignored: bool = False) -> None:
        self.ready = folder / "ready"
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + code], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MARK": str(folder)}, start_new_session=True,
            preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else hear_terminal,
        )  # fmt: skip
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.mark.parametrize("number", CODES)
def test_a_command_unwinds_says_how_to_go_on_and_exits_as_shells_count(number: int, tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "with stopping.run_command(['budget=100', 'seed=0,1', '+notes.why=a b']):\n"
        "    try:\n        ready()\n    finally:\n        print('closed')\n",
    )
    script.send(number)
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[signal.Signals(number)]
    line = f"fmsteal: stopped by {name}. Continue with: fmsteal budget=100 seed=0,1 '+notes.why=a b'\n"
    assert script.end() == (CODES[signal.Signals(number)], "closed\n", line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-m", "force=true", "seed=0,1"], "Continue with: fmsteal -m seed=0,1"),  # done jobs are not done again
        (["force=true", "-q"], "Continue with: fmsteal force=true -q"),  # a forced job that is cut off goes on
        (["evaluate", "outputs/runs"], "Continue with: fmsteal evaluate outputs/runs"),
        (["status", "outputs/sweeps/a", "--watch"], ""),
    ],
)
def test_what_is_said(words: list[str], line: str, tmp_path: Path) -> None:
    script = Script(tmp_path, f"with stopping.run_command({words!r}):\n    ready()\n")
    script.send(signal.SIGINT)
    code, out, err = script.end()
    assert (code, out, err) == (130, "", line and f"fmsteal: stopped by Ctrl-C. {line}\n")


@pytest.mark.parametrize(
    "becomes",
    [
        "except stopping.Stopped: sys.exit(1)",
        "except stopping.Stopped as error: raise RuntimeError('no models') from error",
        "except stopping.Stopped: pass",
    ],
)
def test_whatever_a_library_makes_of_it_the_command_is_stopped(becomes: str, tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "with stopping.run_command([]):\n"
        "    try:\n        with stopping.heed():\n            try: ready()\n"
        f"            {becomes}\n"
        "        stopping.check()\n        print('goes on')\n"
        "    except Exception: print('an error')\n",
    )
    script.send(signal.SIGTERM)
    code, out, err = script.end()
    assert (code, out) == (143, "") and "Traceback" not in err


def test_processes_that_it_has_started_end_with_it(tmp_path: Path) -> None:
    """One that ends when it is told to, one that does not, and the child of each."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    script = Script(
        tmp_path,
        "with stopping.run_command([]):\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 61 & sleep 62'])\n"
        f"    child = subprocess.Popen([sys.executable, '-c', {deaf!r}], stdout=subprocess.PIPE)\n"
        "    child.stdout.readline()\n    ready()\n",
    )
    assert len(left_behind(str(tmp_path), 0)) == 5
    script.send(signal.SIGTERM)
    assert script.end()[0] == 143 and left_behind(str(tmp_path)) == []


@pytest.mark.parametrize(
    "busy",
    [
        "while True:\n        try: time.sleep(0.01)\n        except BaseException: pass",
        "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",  # no handler of Python's is run meanwhile
        "try: ready()\n    finally: time.sleep(60)",
    ],
)
@pytest.mark.parametrize("again", [True, False], ids=["told again", "left alone"])
def test_what_does_not_end_by_itself_is_killed(busy: str, again: bool, tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "with stopping.run_command(['seed=1']):\n"
        "    subprocess.Popen(['sleep', '60'])\n    Path('ready').touch()\n"
        f"    {busy}\n",
    )
    script.send(signal.SIGINT)
    if again:
        time.sleep(2 * 0.3)
        script.send(signal.SIGINT)
    code, _, err = script.end()
    assert code == 130 and err.count("Continue with: fmsteal seed=1") == 1
    assert left_behind(str(tmp_path)) == []


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path: Path) -> None:
    """As `timeout` sends it: to the process, and to its group."""
    held = "with stopping.run_command([]):\n    try: ready()\n    finally:\n        print('closed')\n"
    script = Script(tmp_path, held)
    script.send(signal.SIGTERM)
    script.send(signal.SIGTERM)
    assert script.end()[:2] == (143, "closed\n")


def test_a_command_that_is_begun_by_nohup_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "with stopping.run_command([]):\n    Path('ready').touch()\n"
        "    while not Path('enough').exists(): time.sleep(0.01)\n    print('done')\n",
        ignored=True,
    )
    script.send(signal.SIGINT)
    (tmp_path / "enough").touch()
    assert script.end() == (0, "done\n", "")


def test_a_process_that_was_forked_is_not_the_command(tmp_path: Path) -> None:
    """It dies of the signal that it gets, and the command does not hear of it."""
    script = Script(
        tmp_path,
        "with stopping.run_command([]):\n"
        "    child = os.fork()\n"
        "    if not child:\n        ready()\n"
        "    while not Path('ready').exists(): time.sleep(0.01)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stopping.was_told())\n",
    )
    assert script.end() == (0, f"{-signal.SIGTERM} None\n", "")


def test_a_worker_leaves_its_job_and_takes_no_other(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "for _ in range(2):\n"
        "    try:\n        with stopping.run_worker():\n"
        "            try: ready()\n            finally: print('closed')\n"
        "    except BaseException: print('passed on')\n",
    )
    script.send(signal.SIGTERM)
    assert script.end() == (143, "closed\n", "")


def test_after_its_job_a_worker_has_its_signals_back(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "before = [signal.getsignal(n) for n in stopping.NAMES], signal.set_wakeup_fd(-1), threading.active_count()\n"
        "for _ in range(3):\n    with stopping.run_worker(): pass\n"
        "print(before == ([signal.getsignal(n) for n in stopping.NAMES], signal.set_wakeup_fd(-1), "
        "threading.active_count()))\nPath('ready').touch()\n",
    )
    assert script.end() == (0, "True\n", "")


def test_what_must_be_whole_is_finished_first(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        "with stopping.run_command([]):\n"
        "    with stopping.postpone():\n        Path('ready').touch()\n"
        "        while not stopping.was_told(): time.sleep(0.01)\n        print('whole')\n"
        "    print('and more')\n",
    )
    script.send(signal.SIGTERM)
    assert script.end()[:2] == (143, "whole\n")


def test_workers_do_not_hear_the_terminal_and_are_told_to_end_by_the_command(tmp_path: Path) -> None:
    """A terminal's Ctrl-C goes to all processes of the group."""
    worker = (
        "import signal, time, pathlib\n"
        "def leave(*_): pathlib.Path('told').touch(); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, leave); print(flush=True); time.sleep(60)"
    )
    script = Script(
        tmp_path,
        "with stopping.run_command([]), stopping.run_workers():\n"
        f"    child = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE)\n"
        "    child.stdout.readline()\n    ready()\n",
    )
    os.killpg(script.process.pid, signal.SIGINT)
    assert script.end()[0] == 130 and (tmp_path / "told").exists() and left_behind(str(tmp_path)) == []


def test_an_interrupt_without_a_signal_stops_as_ctrl_c_does(tmp_path: Path) -> None:
    script = Script(tmp_path, "Path('ready').touch()\nwith stopping.run_command([]):\n    raise KeyboardInterrupt\n")
    code, _, err = script.end()
    assert code == 130 and "stopped by Ctrl-C" in err and "Traceback" not in err
