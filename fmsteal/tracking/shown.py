"""The tables and pictures that a measurement shows besides its figures, kept so that later jobs' runs show them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmsteal.base.store import read_json, write_json
from fmsteal.records.folders import JobFolder, MeasurementFolder
from fmsteal.tracking.base import Tracker, write_table


class Recorder:
    """A tracker of one measurement that keeps its tables and pictures in its folder. Its figures are kept elsewhere."""

    identity: dict[str, Any] | None = None
    latest: Mapping[str, float] = {}
    place = ""

    def __init__(self, folder: MeasurementFolder) -> None:
        self._folder = folder
        self._shown: list[dict[str, Any]] = []
        self._pictures: dict[str, Any] = {}

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Nothing: a measurement trains no thief, and its heads' curves are not kept."""

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Nothing: the measurement's figures are in its record."""

    def image(self, name: str, path: Path) -> None:
        """Keep a picture that lies in the measurement's folder."""
        self._shown.append({"kind": "image", "name": name, "file": path.name})

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Keep pictures, each with its caption."""
        captions = [caption for _, caption in shown]
        self._pictures |= {f"{name}/{number}": np.asarray(picture) for number, (picture, _) in enumerate(shown)}
        self._shown.append({"kind": "images", "name": name, "captions": captions})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table."""
        write_table(self._folder.tables, name, columns, rows)
        self._shown.append({"kind": "table", "name": name, "columns": list(columns), "rows": [list(r) for r in rows]})

    def artifact(self, kind: str, path: Path) -> None:
        """Nothing: it is in the measurement's folder."""

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Nothing: a measurement comes from its theft."""

    def write(self) -> None:
        """Write what was shown to disk, in order."""
        write_json(self._folder.shown, self._shown)
        if self._pictures:
            np.savez_compressed(self._folder.pictures, **self._pictures)


def show(folder: MeasurementFolder, job: JobFolder, tracker: Tracker) -> None:
    """Show in a job's run what a measurement showed; its picture files are copied into the job's folder."""
    for each in read_json(folder.shown) or []:
        if each["kind"] == "table":
            tracker.table(each["name"], each["columns"], each["rows"])
        elif each["kind"] == "image":
            (job.path / each["file"]).write_bytes((folder.path / each["file"]).read_bytes())
            tracker.image(each["name"], job.path / each["file"])
        else:
            name, captions = each["name"], each["captions"]
            with np.load(folder.pictures) if captions else nullcontext({}) as kept:
                shown = [(Image.fromarray(kept[f"{name}/{n}"]), caption) for n, caption in enumerate(captions)]
            tracker.images(name, shown)
