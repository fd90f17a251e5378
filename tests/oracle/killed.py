"""A job behind a defense that remembers everything, killed again and again: run as a script, since it forks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from fmsteal.oracle import blocks
from tests.support.guards import SIZE, Counts, api, files, patient

QUESTIONS = 150


def job(folder: Path) -> Counts:
    """Ask in asks of 1 to 12, twice about most images, by two clients; returns the guard after it."""
    order = np.random.default_rng(1)
    guard = Counts("all")
    oracle = api(folder, guard)
    asked = 0
    while asked < QUESTIONS:
        ids = order.integers(0, SIZE, int(order.integers(1, 13)))
        patient(lambda i=ids, c=asked % 2: oracle.ask(i, c))  # type: ignore[misc]
        asked += len(ids)
    (folder / "end").write_text(f"{guard.state} {oracle.costs()} {oracle.used}")
    return guard


def run_for(folder: Path, seconds: float) -> bool:
    """Run the job in a process of its own, and kill it after so long; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            job(folder)
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("the job failed")
    return os.WIFSIGNALED(status)


def main(folder: Path, kills: int) -> None:
    """Kill jobs ``kills`` times; each must end as the one that nobody disturbed."""
    blocks.ANSWERED_AT_ONCE = 5  # so that most asks are several blocks
    whole = folder / "whole"
    began = time.monotonic()
    state = job(whole).state
    takes, killed, finished = time.monotonic() - began, 0, 0
    random.seed(os.urandom(8))
    broken = folder / "broken"
    while killed < kills or broken.exists():
        was_killed = run_for(broken, random.uniform(0, takes / 10) if killed < kills else 100 * takes)
        if was_killed:
            killed += 1
            continue
        finished += 1
        ours, theirs = files(broken), files(whole)
        other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        assert not other, f"the killed job's files are not those of the undisturbed one: {', '.join(other)}"
        shutil.rmtree(broken)
    guard = Counts("all")
    api(whole, guard)
    assert guard.state == state
    print(f"{killed} killed, {finished} finished")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
