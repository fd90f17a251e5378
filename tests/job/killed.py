"""Real commands that are killed: jobs of several attacks, what they leave, and when to strike."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmsteal.records.folders import THEFTS
from tests.job.jobs import LINEAR, read
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.warm import Command

ROOT = str(Path(__file__).parents[2])
JOB = (
    *SMALL, LINEAR, "overlap=allow", "thief.recipe.epochs=2", "trainer.checkpoint_seconds=0",
)  # fmt: skip
ATTACKS: dict[str, tuple[str, ...]] = {
    "knockoff": (),
    "knockoff_adaptive": ("attack.clusters=8", "attack.batch=16"),
    "activethief": ("attack.rounds=2",),
    "jbda": ("attack.growth=1",),
    "querywise": ("attack.unlabelled=50", "attack.ratio=1"),
    "copycat": (),
}


def words(attack: str, cache: Path) -> tuple[str, ...]:
    return *JOB, f"cache={cache}", f"attack={attack}", *ATTACKS[attack]


def start(root: Path, *given: str) -> Command:
    """Begin the command in ``root``; it finds the classes of these tests."""
    root.mkdir(exist_ok=True)
    env = environment()
    path = os.pathsep.join([ROOT, env.get("PYTHONPATH", "")])
    return Command(given, root, {**env, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, joined=True)


def finish(command: Command, ok: bool = True) -> str:
    said, _ = command.communicate()
    assert (command.returncode == 0) == ok, said
    return said


@dataclass(frozen=True)
class Left:
    """What a finished job has left: files by name, and its result."""

    files: dict[str, bytes]
    predictions: dict[str, np.ndarray]
    result: dict[str, Any]

    @classmethod
    def of(cls, root: Path) -> Left:
        """Of the one theft below a folder."""
        (folder,) = [p for p in (root / "outputs" / THEFTS).iterdir() if not p.name.startswith(".")]
        results = [p for p in (root / "outputs").rglob("result.json") if THEFTS not in p.parts]
        kept = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".bin", ".safetensors", ".csv")}
        arrays = dict(np.load(results[0].with_name("predictions.npz")))
        return cls(kept, arrays, read(results[0]))

    def require_same(self, other: Left) -> None:
        """See that another job has left the same."""
        assert set(self.files) == set(other.files) >= {"ledger.bin", "thief.safetensors", "curves.csv"}
        for name in sorted(self.files):
            assert self.files[name] == other.files[name], f"{name} differs"
        for name, value in self.predictions.items():
            np.testing.assert_array_equal(value, other.predictions[name], err_msg=name)
        assert self.result["metrics"] == other.result["metrics"]
        for name in ("cost/queries", "cost/usd"):
            assert self.result["cost"][name] == other.result["cost"][name]


def ledger(root: Path) -> bytes:
    """The answers on the disk, of whatever theft there is."""
    return b"".join(p.read_bytes() for p in sorted((root / "outputs" / THEFTS).glob("*/ledger.bin")))


def kill_at(root: Path, after: float, *given: str) -> bool:
    """Start the command and kill it after ``seconds`` seconds; False if it was done before."""
    command = start(root, *given)
    end = time.monotonic() + after
    while time.monotonic() < end and command.poll() is None:
        time.sleep(0.005)
    if command.poll() is not None:
        finish(command)
        return False
    command.send_signal(signal.SIGKILL)
    command.communicate()
    return True


def kill_repeatedly(root: Path, kills: int, seconds: float, chance: random.Random, *given: str) -> int:
    """Kill the same job at random moments, several times in a row, then let it end; how many kills met it at work.

    What was paid for before a kill is there after the next run, unchanged.
    """
    met, record = 0, 4 + 4 + 16 + 4 + 4 * 10
    for _ in range(kills):
        before = ledger(root)
        met += kill_at(root, chance.uniform(0.1, 1.0) * seconds, *given)
        line = before.find(b"\n") + 1
        whole = before[: line + (len(before) - line) // record * record] if line else b""
        assert ledger(root).startswith(whole), "an answer that was paid for is lost"
        if list((root / "outputs").glob("*/*/result.json")):
            break
    finish(start(root, *given))
    return met
