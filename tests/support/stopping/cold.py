"""The real command in a process that imports everything itself, told to end where it holds."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from tests.support.commands import command, environment
from tests.support.composing import SMALL

ROOT = Path(__file__).parents[3]
PLACES = ("composing", "training victim", "querying", "training thief", "measuring")
WORDS = (
    *SMALL, "budget.queries=20", "query.count=100", "data.train_count=100", "victim.seed=0",
    "defense._target_=tests.support.stopping.held.Querying",
    "evaluation._target_=tests.support.stopping.held.Measuring",
    "trainer.callbacks=[{_target_:tests.support.stopping.held.Training}]",
)  # fmt: skip
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Cold:
    """A running ``fmsteal WORDS``.

    Attributes:
        mark: what all processes that it starts have in their environment.
    """

    def __init__(self, root: Path, *words: str, place: str = "", **variables: str) -> None:
        self.mark = secrets.token_hex(8)
        self._held = root / f"held-{self.mark}"
        paths = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support' / 'stopping' / 'plugins'}"
        known = {"PYTHONPATH": f"{paths}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
        own = {"HOLD": place, "HELD": str(self._held), "MARK": self.mark}
        self.process = subprocess.Popen(
            command(*words), cwd=root, env={**environment(), **known, **variables, **own}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=hear_terminal,
        )  # fmt: skip

    def until_held(self) -> int:
        """Wait until one of its processes holds; which one."""
        while not (self._held.exists() and self._held.read_text()):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        return int(self._held.read_text())

    def stop(self, number: int, terminal: bool = False) -> tuple[str, str, float]:
        """Tell it to end, as a terminal tells all its processes or `kill` one; what it said, the seconds it took."""
        began = time.monotonic()
        os.killpg(self.process.pid, number) if terminal else self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return out, err, time.monotonic() - began

    def left(self) -> list[str]:
        """The processes that it has left behind."""
        return left_behind(self.mark)


def hear_terminal() -> None:
    """Tests that run in the background may have been told not to; what they start would inherit it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def left_behind(mark: str, patience: float = 20.0) -> list[str]:
    """The processes with this MARK in their environment, after ``patience`` seconds for them to end."""
    end = time.monotonic() + patience
    while (found := _marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found += [f"{process.name} {words}"] if words else []  # or it has ended
        except OSError:  # gone, or somebody else's
            continue
    return found
