"""Forging a finished job as somebody would who can compute every plain digest anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fmsteal.records.results import read_job
from fmsteal.report.commands import verify

Record = dict[str, Any]
HEAD = 28  # bytes of a ledger's record before its answer


class Forged:
    """A copy of a job and its theft, to be tampered with.

    Attributes:
        job: the job's folder.
        theft: that of its theft.
        measured: that of its main measurement.
    """

    def __init__(self, outputs: Path) -> None:
        (self.job,), (self.theft,) = (list((outputs / name).glob("*-*")) for name in ("runs", "thefts"))
        (self.measured,) = (self.theft / "measurements").glob(
            "classify-*"
        )  # beside what a defense costs, if it has one

    @property
    def result(self) -> Path:
        return self.job / "result.json"

    @property
    def seal(self) -> Path:
        return self.theft / "theft.json"

    @property
    def begun(self) -> Path:
        return self.theft / "begun.json"

    @property
    def record(self) -> Path:
        return self.measured / "measurement.json"

    def files(self) -> dict[str, Path]:
        """Each file that verifying looks at, by its name in the job's or the theft's folder; logs are none."""
        found: dict[str, Path] = {}
        for folder, label in ((self.job, "job"), (self.theft, "theft")):
            for file in sorted(folder.rglob("*")):
                name = file.relative_to(folder).as_posix()
                logs = name.startswith("wandb/") or name.endswith((".log", ".lease")) or name.startswith(".running")
                if file.is_file() and (name == "defense.log" or not logs):
                    found[f"{label}: {name}"] = file
        return found

    def faults(self) -> list[str]:
        return list(verify.verify(read_job(self.job)).faults)

    def change(self, file: Path, change: Callable[[Record], object]) -> None:
        """Change a sealed record, and seal it anew; of the theft's files also what vouches for them."""
        record = json.loads(file.read_text())
        del record["seal"]
        change(record)
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        seal = hashlib.sha256(text.encode()).hexdigest()
        replace(file, (json.dumps({**record, "seal": seal}, indent=2, sort_keys=True) + "\n").encode())
        if file == self.seal:
            self.change(self.result, lambda r: r.update(sealed=sha(file)))

    def vouch(self, file: Path) -> None:
        """Write a changed file's digest into the record that vouches for it."""
        by, folder = (self.result, self.job) if self.job in file.parents else (self.seal, self.theft)
        if self.measured in file.parents:
            by, folder = self.record, self.measured
        self.change(by, lambda r: r["files"].update({file.relative_to(folder).as_posix(): sha(file)}))


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def replace(file: Path, content: bytes) -> None:
    """Give a file other content; another name of it keeps the old."""
    fresh = file.with_name(f".{file.name}.fresh")
    fresh.write_bytes(content)
    fresh.replace(file)


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """A file with one bit flipped."""
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    replace(file, bytes(damaged))
    try:
        yield
    finally:
        replace(file, content)


def copied(outputs: Path, target: Path) -> Forged:
    """A job and its theft alone, without the cache."""
    shutil.copytree(outputs, target, ignore=shutil.ignore_patterns("cache"))
    return Forged(target)


def agree_more(file: Path) -> dict[str, Any]:
    """Predictions whose thief is right as often as the victim on every other image."""
    with np.load(file) as kept:
        arrays = dict(kept)
    arrays["thief_logits"][::2] = arrays["victim_logits"][::2]
    arrays["thief"][::2] = arrays["victim"][::2]
    return arrays
