"""Reading an offline W&B file: a 7-byte header, then LevelDB-style log records in 32 KiB blocks, each one protobuf."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024


def records(path: Path) -> list[Record]:
    """Every record of a ``.wandb`` file."""
    data, place, found, parts = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B", data[:7]
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # a block's last bytes are padding where no header fits
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


class OfflineRun:
    """What a person would see of a run after syncing its file."""

    def __init__(self, path: Path) -> None:
        self.records = records(path)
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.run: Any = None
        self.exit_code: int | None = None
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
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def curve(self, x: str, y: str) -> list[tuple[float, float]]:
        """The points of a curve."""
        return [(row[x], row[y]) for row in self.history if x in row and y in row]

    @staticmethod
    def _update(target: dict[str, Any], items: Any) -> None:
        for item in items:
            target[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Every offline run below a folder."""
    return [OfflineRun(path) for path in sorted(folder.rglob("*.wandb"))]
