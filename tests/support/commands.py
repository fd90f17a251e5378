"""The real command, run in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.warm import Command


def environment() -> dict[str, str]:
    """The process environment without logins, W&B offline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return {**kept, "WANDB_MODE": "offline", "HYDRA_FULL_ERROR": "0", "COLUMNS": "200"}


def command(*args: str) -> list[str]:
    """The `fmsteal` command line, run by this interpreter."""
    return [sys.executable, "-m", "fmsteal", *args]


Run = Callable[..., subprocess.CompletedProcess[str]]


def start(*words: str, cwd: Path) -> Command:
    """Begin the command in the folder ``cwd``; what it writes to both outputs is one text."""
    cwd.mkdir(exist_ok=True)
    return Command(words, cwd, environment(), joined=True)


def finish(running: Command | subprocess.Popen[str], ok: bool = True) -> str:
    """Wait for its end; what it said."""
    said, _ = running.communicate(timeout=300)
    assert (running.returncode == 0) == ok, said
    return said
