"""What a job leaves in its own folder: its figures, copies of what reports read, and finally ``result.json``."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.environment import describe_environment
from fmsteal.base.store import checksum, explain_errors, link_or_copy, sync
from fmsteal.identity.keys import cell_settings
from fmsteal.job import stolen
from fmsteal.job.measure import Found
from fmsteal.job.theft import Record, Theft, write_sealed
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import SCHEMA, digest_asked, keep_config, stamp_paths
from fmsteal.tracking.base import read_points
from fmsteal.tracking.shown import show
from fmsteal.training.context import Context

log = logging.getLogger(__name__)
PARTS = ("metrics", "intervals", "about")  # parts of what the attack reported and of what was measured


@dataclass(frozen=True)
class JobInfo:
    """A job's key, its folder, the key of its victim, which other jobs may share, and whether it shows a bar.

    ``name``, ``jobs`` and ``requeued`` are for its tracker: see `RunInfo`.
    """

    key: str
    folder: Path
    axis: dict[str, Any]
    command: str
    victim: str
    bar: bool = True
    name: str = ""
    jobs: int = 1
    requeued: bool = False

    @property
    def files(self) -> JobFolder:
        """The paths of the job's files."""
        return JobFolder(self.folder)


def replay(theft: Theft, record: Record, ctx: Context) -> None:
    """Send the curves of a sealed theft to this job's own run, and log where the theft comes from."""
    log.info("%s is stolen already: nothing is asked or trained", theft.folder.path.name)
    ours, theirs = describe_environment(), record["code"]
    if (ours["git"], ours["packages"]["fmsteal"]) != (theirs["git"], theirs["version"]):
        log.info("it was stolen by other code than this: fmsteal %s, commit %s", theirs["version"], theirs["git"])
    for (name, x), points in itertools.groupby(read_points(theft.folder.curves), key=lambda point: point[:2]):
        ctx.tracker.log({metric: value for _, _, metric, value in points}, (name, x))


def publish(
    cfg: DictConfig, job: JobInfo, theft: Theft, record: Record, measured: Found, ctx: Context
) -> dict[str, Any]:
    """Write the job's files, and ``result.json`` last, with the checksums of the others."""
    own, queries = job.files, record["cost"]["cost/queries"]
    price = float(cfg.budget.get("usd_per_1000", 0.0))
    usd = queries * price / 1000 + record["cost"].get("cost/defense_usd", 0.0)
    cost = {
        **record["cost"],
        "cost/usd": usd,
        "cost/usd_billed": usd if record["job"] == str(job.folder.absolute()) else 0.0,
        "cost/seconds": round(record["cost"]["cost/seconds"] + measured.seconds, 2),
    }
    found = {part: {**record.get("found", {}).get(part, {}), **getattr(measured, part)} for part in PARTS}
    if record["paid"]:
        cost["cost/evaluation_queries"] = measured.victim_forwards
        cost["cost/evaluation_usd"] = measured.victim_forwards * price / 1000
    ctx.tracker.summary({**found["metrics"], **cost, "api/width": record["ledger"]["width"]})
    with explain_errors(job.folder):
        for folder in measured.folders.values():
            show(folder, own, ctx.tracker)
        link_or_copy(theft.folder.curves, own.curves)
        join_predictions([folder.predictions for folder in measured.folders.values()], own.predictions)
        ctx.tracker.artifact("predictions", own.predictions)
        for file in stolen.list_files(theft.folder):
            ctx.tracker.artifact("thief", file)
        keep_config(own)
        files = [p for p in (own.predictions, own.curves, own.config, own.choices, own.overrides) if p.is_file()]
        result = {
            "schema": SCHEMA,
            "job_key": job.key,
            "theft": os.path.relpath(theft.folder.path, job.folder.absolute()),
            "sealed": checksum(theft.folder.seal),
            "victim": record["victim"],
            "sweep_id": cfg.sweep_id,
            "axis": job.axis,
            "settings": cell_settings(cfg),
            "asked": digest_asked(cfg),
            **found,
            "measurements": list(measured.folders),
            "cost": cost,
            "seconds": {"victim": record.get("making", 0.0), "measurements": round(measured.seconds, 2)},
            "device": ctx.training.device.type,
            "budget": int(cfg.budget.queries),
            "width": record["ledger"]["width"],
            "command": job.command,
            "paths": stamp_paths(cfg),
            "notes": OmegaConf.to_container(cfg.notes, resolve=True),
            "inputs": record["inputs"],
            "env": describe_environment(),
            "tracker": ctx.tracker.place,
            "files": {p.relative_to(job.folder).as_posix(): checksum(p) for p in files},
        }
        write_sealed(own.result, result)
        own.theft.unlink(missing_ok=True)
        shutil.rmtree(own.work, ignore_errors=True)
    return result


def join_predictions(files: Sequence[Path], target: Path) -> None:
    """Put the predictions of several measurements into one file; a single file is linked or copied unchanged."""
    there = [file for file in files if file.is_file()]
    if len(there) == 1:
        link_or_copy(there[0], target)
        return
    arrays: dict[str, Any] = {}
    for file in there:
        with np.load(file) as kept:
            arrays |= {name: kept[name] for name in kept.files}
    fresh = target.with_name(f".{target.name}")
    with fresh.open("wb") as stream:
        np.savez(stream, **arrays)
    sync(fresh)
    fresh.replace(target)
