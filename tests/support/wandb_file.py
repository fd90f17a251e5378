"""What an offline W&B file says of its run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fmsteal.tracking.on_wandb import read_records

SETTLES = 10.0  # seconds


def settled(path: Path) -> list[Any]:
    """The records of a file, once its run is finished in it, or nothing was written to it for a while.

    W&B's service goes on writing for some milliseconds after `finish` has returned, on a busy machine for longer.
    """
    while True:
        quiet = time.time() - path.stat().st_mtime
        found = list(read_records(path))
        if quiet > SETTLES or any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)


class OfflineRun:
    """What a person would see of a run after syncing its file."""

    def __init__(self, path: Path) -> None:
        self.records = settled(path)
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.run: Any = None
        self.exit_code: int | None = None
        self.preempting = False
        for record in self.records:
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self._update(self.config, record.run.config.update)
            elif kind == "config":
                self._update(self.config, record.config.update)
            elif kind == "summary":
                self._update(self.summary, record.summary.update)
            elif kind == "history":
                row: dict[str, Any] = {}
                self._update(row, record.history.item)
                self.history.append(row)
            elif kind == "preempting":
                self.preempting = True
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def curve(self, x: str, y: str) -> list[tuple[float, float]]:
        """The points of a curve."""
        return [(row[x], row[y]) for row in self.history if x in row and y in row]

    @property
    def names(self) -> set[str]:
        """Of all figures, tables and pictures in the history, and of the summary's."""
        logged = {key for row in self.history for key in row} | self.summary.keys()
        return logged | {key.removesuffix("/_type") for key in logged if key.endswith("/_type")}

    @staticmethod
    def _update(target: dict[str, Any], items: Any) -> None:
        for item in items:
            target[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Every offline run below a folder."""
    return [OfflineRun(path) for path in sorted(folder.rglob("*.wandb"))]
