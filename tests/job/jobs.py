"""Small jobs in this process, against a victim that need not be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.identity.keys import identity, key_hash
from fmsteal.job.pipeline import run
from fmsteal.job.publish import JobInfo
from fmsteal.records.folders import THEFTS, JobFolder, MeasurementFolder, TheftFolder, find_theft
from tests.support.composing import SMALL, composed

LINEAR = "victim._target_=tests.support.foreign_victims.Linear"
QUICK = (*SMALL, LINEAR, "overlap=allow")
WIDTH, QUERIES = 10, 100
RECORD = 4 + 4 + 16 + 4 + 4 * WIDTH  # bytes of an answer in a ledger


def job_config(root: Path, *overrides: str) -> DictConfig:
    """The config of a job as it reaches the pipeline: without the ``hydra`` node."""
    cfg = composed(*QUICK, f"output={root}", *overrides)
    return OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"])


def run_job(root: Path, *overrides: str, name: str = "job") -> dict[str, Any]:
    """Run a job whose folder is ``root / runs / name``; its result."""
    cfg = job_config(root, *overrides)
    key = f"small-{key_hash(identity(cfg))}"
    return run(cfg, JobInfo(key, root / "runs" / name, {}, "fmsteal ...", "victim"))


def job(root: Path, name: str = "job") -> JobFolder:
    return JobFolder(root / "runs" / name)


def theft(root: Path, name: str = "job") -> TheftFolder:
    """The theft of a job."""
    found = find_theft(job(root, name))
    assert found is not None
    return TheftFolder(found.path.resolve())


def thefts(root: Path) -> list[str]:
    return sorted(p.name for p in (root / THEFTS).iterdir() if not p.name.startswith("."))


def answers(folder: TheftFolder) -> int:
    """How many answers a ledger holds, by its size."""
    data = folder.ledger.read_bytes().partition(b"\n")[2]
    assert len(data) % RECORD == 0
    return len(data) // RECORD


def measured(folder: TheftFolder) -> dict[str, MeasurementFolder]:
    """The measurements of a theft, by the names they begin with."""
    return {p.name.rpartition("-")[0]: MeasurementFolder(p) for p in folder.measurements.iterdir()}


def read(file: Path) -> Any:
    return json.loads(file.read_text())
