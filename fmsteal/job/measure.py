"""The measurements of a theft: each is made once, in its own folder below the theft's."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from fmsteal.base.metric import record as record_metrics
from fmsteal.base.store import checksum, digest, explain_errors, publish, sync
from fmsteal.config import build
from fmsteal.evaluation.base import Measurement, Pair, find_inputs, list_measurements, measure
from fmsteal.identity.keys import node_identity
from fmsteal.job.parts import Parts
from fmsteal.job.theft import find_damage, read_sealed, write_sealed
from fmsteal.records.folders import MeasurementFolder, TheftFolder
from fmsteal.records.honest import HONEST, find_honest
from fmsteal.tracking.shown import Recorder
from fmsteal.training.context import Context

log = logging.getLogger(__name__)
SCHEMA = 1
SERVED = "the model that serves"

Record = dict[str, Any]
Known = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Asked:
    """A measurement that a job asks for.

    Attributes:
        name: its short name, ``classify`` or its key below ``evaluation.also``.
        what: the measurement.
        identity: what identifies it, from the config: stable name, version, options.
    """

    name: str
    what: Measurement
    identity: Mapping[str, Any]


@dataclass
class Found:
    """The combined results of a job's measurements.

    Attributes:
        folders: folders of the measurements by folder name, in order.
        metrics: figures by metric name.
        intervals: intervals by metric name, for metrics that have one.
        about: label and direction by metric name.
        seconds: total time of the measurements, including those made earlier.
        victim_forwards: number of images that the victim computed for the measurements.
    """

    folders: dict[str, MeasurementFolder] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    victim_forwards: int = 0

    def add(self, folder: MeasurementFolder, record: Mapping[str, Any]) -> None:
        """Add one measurement's record."""
        self.folders[folder.path.name] = folder
        for metric, value in record["metrics"].items():
            if metric in self.metrics and self.metrics[metric] != value:
                log.warning("%s was measured twice, differently: the first figure is shown", metric)
                continue
            self.metrics[metric] = value
            if metric in record["intervals"]:
                self.intervals[metric] = record["intervals"][metric]
            if metric in record["about"]:
                self.about[metric] = record["about"][metric]
        self.seconds += record["seconds"]
        self.victim_forwards += record["victim_forwards"]


def list_asked(cfg: DictConfig, parts: Parts) -> list[Asked]:
    """The measurements that a job's config asks for in ``evaluation`` and ``evaluations``, without duplicates.

    A job with a defense gets one more at the end: what the defense costs an honest client.
    """
    found: dict[str, Asked] = {}
    nodes, made = [cfg.evaluation, *cfg.evaluations], [parts.evaluation, *parts.evaluations]
    for node, evaluation in zip(nodes, made, strict=True):
        whole = dict(node_identity(node, "evaluation"))
        further = whole.pop("also", {})
        for name, what in list_measurements(evaluation).items():
            known = further.get(name, whole)
            found.setdefault(digest([name, known]), Asked(name, what, known))
    if (honest := find_honest(cfg)) is not None:
        known = node_identity(honest, HONEST)
        found[digest([HONEST, known])] = Asked(HONEST, build.make(honest), known)
    return list(found.values())


class Measurements:
    """The measurements of one theft, looked up or made.

    Attributes:
        theft: folder of the theft.
        on: digests of what all of them are measured on: the thief, the victim, the task's images.
    """

    def __init__(self, theft: TheftFolder, record: Record, content: Mapping[str, str], replaced: bool = False) -> None:
        """Take the record of a sealed theft, and the digests of the current images (``content``).

        ``replaced``: a defense has put another model in the victim's place, and agreement is with that one.
        """
        self.theft = theft
        names = [file.name for file in (theft.thief, theft.program, theft.ledger) if file.name in record["files"]]
        images = {name: content[name] for name in ("training images", "test images")}
        self.on = {"thief": record["files"][names[0]], "victim": record["victim"], "images": images}
        self.on |= {"agreement": SERVED} if replaced else {}

    def run(self, wanted: Sequence[Asked], pair: Callable[[Known], Pair], ctx: Context) -> Found:
        """Look up the ``wanted`` measurements, and make those that are missing.

        ``pair`` returns victim and thief; it is passed the logits that an earlier measurement has kept.

        Raises:
            AttackError: the thief cannot be measured.
        """
        found, known, made = Found(), None, None
        for each in wanted:
            spec = self._spec(each, find_inputs(each.what, ctx.store))
            folder, record = self._find(each.name, spec)
            if record is None:
                made = made or pair(known)
                record = self._make(folder, spec, each.what, made, ctx)
            elif known is None:
                known = _logits(folder)
            found.add(folder, record)
        return found

    def _spec(self, each: Asked, further: Mapping[str, str]) -> dict[str, Any]:
        """Everything that decides a measurement's figures."""
        return {"name": each.name, "measurement": each.identity, **self.on, "inputs": dict(further)}

    def _find(self, name: str, spec: Mapping[str, Any]) -> tuple[MeasurementFolder, Record | None]:
        """The folder of a measurement, and its record if it was made; a damaged one is removed, to be made again."""
        folder = MeasurementFolder(self.theft.measurements / f"{name}-{digest(spec)[:16]}")
        if not folder.path.is_dir():
            return folder, None
        record = read_sealed(folder.record)
        faults = [f"{folder.record.name} is damaged"] if record is None else find_damage(folder.path, record)
        if not faults:
            return folder, record
        log.warning("%s: damaged (%s). It is measured again", folder.path, ", ".join(faults))
        shutil.rmtree(folder.path, ignore_errors=True)
        return folder, None

    def _make(
        self, folder: MeasurementFolder, spec: Mapping[str, Any], what: Measurement, pair: Pair, ctx: Context
    ) -> Record:
        """Make a measurement, publish its folder only when complete, and return its record."""
        with explain_errors(self.theft.path):
            self.theft.measurements.mkdir(parents=True, exist_ok=True)
            for stale in self.theft.measurements.glob(".tmp-*"):  # left by a killed process
                shutil.rmtree(stale, ignore_errors=True)
            fresh = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self.theft.measurements))
        try:
            fresh.chmod(self.theft.measurements.stat().st_mode)
            written = self._write(MeasurementFolder(fresh), spec, what, pair, ctx)
            with explain_errors(self.theft.path):
                publish(fresh, folder.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return read_sealed(folder.record) or written  # another process may have been first

    def _write(
        self, folder: MeasurementFolder, spec: Mapping[str, Any], what: Measurement, pair: Pair, ctx: Context
    ) -> Record:
        began, calls, shown = time.monotonic(), pair.victim.calls, Recorder(folder)
        before = calls.computed["measurement"]
        with calls.during("measurement"):
            found = measure(what, pair, replace(ctx, run_dir=folder.path, tracker=shown))
        with explain_errors(self.theft.path):
            shown.write()
            if found.predictions:
                np.savez(folder.predictions, **found.predictions)  # type: ignore[arg-type]
            files = sorted(p for p in folder.path.rglob("*") if p.is_file())
            for file in files:
                sync(file)
            record: Record = {
                "schema": SCHEMA,
                "spec": dict(spec),
                **record_metrics(found.metrics),
                "seconds": round(time.monotonic() - began, 2),
                "victim_forwards": calls.computed["measurement"] - before,
                "files": {file.relative_to(folder.path).as_posix(): checksum(file) for file in files},
            }
            write_sealed(folder.record, record)
        return record


def _logits(folder: MeasurementFolder) -> Known:
    """Both models' logits on the test images, if a measurement has kept them."""
    if not folder.predictions.is_file():
        return None
    with np.load(folder.predictions) as arrays:
        names = ("original_logits" if "original_logits" in arrays else "victim_logits", "thief_logits")
        if not set(names) <= set(arrays.files):
            return None
        victim, thief = (torch.from_numpy(arrays[name]) for name in names)
    return victim, thief
