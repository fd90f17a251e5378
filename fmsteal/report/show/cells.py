"""Sends each cell of a sweep as one run to the service that its jobs went to, so that their table needs no grouping."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base.store import digest, explain_errors, read_json, write_json
from fmsteal.config import build
from fmsteal.records.folders import SWEEPS, JobFolder, SweepFolder
from fmsteal.records.results import Result, load_yaml, read_plan
from fmsteal.report.read.cells import CELL, make_axis, make_figures
from fmsteal.report.read.study import Cell, Study
from fmsteal.tracking.base import CsvTracker, RunInfo
from fmsteal.tracking.naming import find_varying, run_name

log = logging.getLogger(__name__)


@dataclass
class Sent:
    """How many cells were sent, were sent before as they are now, have no finished job, or have no service."""

    sent: int = 0
    unchanged: int = 0
    unfinished: int = 0
    without: int = 0


def send(folder: Path, again: bool = False) -> Sent:
    """Send the cells of a sweep's folder, those that have changed since they were sent; ``again``: all of them.

    A cell's run has the sweep's name as its group, the job type ``cell``, and an id made from sweep and cell: sent
    again, it is updated.

    Raises:
        FmstealError: the folder holds no jobs, or a service refuses a run.
    """
    study, known = Study.of([folder]), (read_plan(folder) or {}).get("jobs", {})
    planned = list(known.values())
    varying = find_varying(planned) if planned else set(study.columns)
    trackers: dict[str, Any] = {}
    counts = Sent()
    for cell in study.cells:
        if not cell.done:
            counts.unfinished += 1
            continue
        node = _read_tracker(JobFolder(cell.done[0].on_disk.folder), folder.absolute())
        if (known_as := digest(node)) not in trackers:
            trackers[known_as] = _make(node)
        tracking = trackers[known_as]
        if not getattr(tracking, "cells", False):
            counts.without += 1
            continue
        place = SweepFolder(folder.absolute()).cell(cell.key)
        info, figures = _describe(cell, place.path, varying), make_figures(study, cell)
        now = {"figures": figures, "axis": info.axis, "config": info.config, "name": info.name, "tracker": node}
        if read_json(place.sent) == now and not again:
            counts.unchanged += 1
            continue
        with explain_errors(place.path):
            place.path.mkdir(parents=True, exist_ok=True)
        with tracking.open(info) as tracker:
            tracker.summary(figures)
        if type(tracker) is CsvTracker:  # as with WANDB_MODE=disabled
            counts.without += 1
            continue
        write_json(place.sent, now)
        counts.sent += 1
    return counts


def _describe(cell: Cell, folder: Path, varying: set[str]) -> RunInfo:
    """What identifies a cell's run."""
    first, axis = cell.done[0], make_axis(cell)
    result: Result = first.on_disk.result or {}
    config = {
        "cell": dict(cell.values),
        "seeds": [job.seed for job in cell.done],
        "jobs": [job.on_disk.key for job in cell.done],
        "settings": result.get("settings") or {},
        "notes": result.get("notes") or {},
    }
    words = [word for word in first.on_disk.overrides if not word.startswith("seed=")]
    return RunInfo(
        key=cell.key,
        folder=folder,
        axis=axis,
        config=config,
        group=result.get("sweep_id"),
        git=(result.get("env") or {}).get("git"),
        kind=CELL,
        name=run_name(axis, words, varying, "thief"),
    )


def _read_tracker(job: JobFolder, sweep: Path) -> dict[str, Any]:
    """The tracker that a job was configured with; empty if its config cannot be read.

    Its output folder is the one that the sweep is in, wherever this command is given.
    """
    try:
        node = OmegaConf.create(load_yaml(job.config.read_text()))
        if sweep.parent.name == SWEEPS:
            node.output = str(sweep.parents[1])
        found = OmegaConf.to_container(node.tracker, resolve=True)
    except Exception:  # absent, or damaged in any way
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _make(node: Mapping[str, Any]) -> Any:
    return build.make(OmegaConf.create(dict(node))) if "_target_" in node else None
