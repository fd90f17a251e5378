"""A sweep that is told to end, and what must hold once it has."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

from tests.support.stopping.cold import CODES, WORDS, Cold

SWEEP = ("-m", *WORDS, "seed=0,1", "sweep_id=mine")


OFFLINE = ("tracker=wandb", "tracker.mode=offline")


def assert_stopped(cold: Cold, root: Path, number: int, terminal: bool = False) -> list[str]:
    """Stop it where it holds; the words of the command that it says goes on with it."""
    cold.until_held()
    out, err, seconds = cold.stop(number, terminal)
    assert cold.process.returncode == CODES[signal.Signals(number)], err
    assert seconds < 20  # on a machine with other work; alone it takes less than 3
    assert cold.left() == []
    said = [line for line in err.splitlines() if "stopped by" in line]
    assert len(said) == 1 and "Traceback" not in out + err and "failed" not in out + err, out + err
    assert not list(root.rglob("failure.json")) and not list(root.glob("outputs/*/**/result.json"))
    assert "without a result" not in out
    return shlex.split(said[0].partition("Continue with: ")[2])
