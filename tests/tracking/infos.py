"""What a tracker is told of a job."""

from __future__ import annotations

from pathlib import Path

from fmsteal.tracking.base import RunInfo


def info(folder: Path, key: str = "job", group: str | None = "sweep") -> RunInfo:
    folder.mkdir(parents=True, exist_ok=True)
    return RunInfo(key, folder, {"victim": "v", "budget": "1k"}, {"seed": 0}, group, "abc")
