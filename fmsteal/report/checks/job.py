"""Checks a finished job's result against its own files, its theft, its measurements, its config and its W&B run."""

from __future__ import annotations

import os
import re
from typing import Any

from fmsteal.base.store import is_there
from fmsteal.identity.keys import KEY_VERSION
from fmsteal.records.folders import CURVES, RESULT, JobFolder, TheftFolder
from fmsteal.report.checks.axes import check_axes
from fmsteal.report.checks.config import read_choices, read_config
from fmsteal.report.checks.cost import check_cost
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.measurements import check_measurements
from fmsteal.report.checks.records import Record, key_hash, read_record
from fmsteal.report.checks.summary import check_summary
from fmsteal.report.checks.theft import check_theft

SCHEMA = 2
_NAME = re.compile(r"-([0-9a-f]{16})(\.\d+)?$")


def is_old(result: Record) -> bool:
    """Whether a result is from before thefts were kept: nothing vouches for its files."""
    return result.get("schema") == 1 and not {"seal", "theft", "sealed"} & result.keys()


def check_job(job: JobFolder) -> Findings:
    """Check everything that a finished job left, except its figures."""
    found, name = Findings(), job.result.name
    result = read_record(job.result, name, found)
    if result is None:
        return found
    found.require(result.get("schema") == SCHEMA, name, f"is of schema {result.get('schema')!r}, not {SCHEMA}")
    with found.reading(name):
        _check_own(job, result, found)
    folder, sealed, records, whole = TheftFolder(job.path), None, None, {}
    with found.reading(name):
        folder = TheftFolder(job.path / os.path.normpath(result["theft"]))
        sealed = check_theft(folder, found)
    if sealed is not None:
        with found.reading(name):
            _check_theirs(folder, result, sealed, found)
    if is_there(folder.path):
        with found.reading(name):
            records = check_measurements(job, result, folder, sealed, found)
    with found.reading(f"{job.hydra.name}/{job.config.name}"):
        whole = read_config(job.config)
    if sealed is not None and records is not None and len(records) == len(result["measurements"]):
        with found.reading(name):
            check_cost(result, sealed, records, _price(whole), name, found)
    with found.reading(name):
        check_axes(result, (sealed or {}).get("identity"), whole, read_choices(job.choices), name, found)
    with found.reading(name):
        check_summary(job, result, found)
    return found


def _price(config: Record) -> float:
    """US dollars for a thousand queries, as the config has it."""
    own = config["victim"].get("usd_per_1000")
    return float(config["budget"].get("usd_per_1000", 0.0) if own is None else own)


def _check_own(job: JobFolder, result: Record, found: Findings) -> None:
    """Check the files of the job's own folder."""
    name, files = job.result.name, result["files"]
    for file, known in files.items():
        found.compare(job.path / file, file, known, name)
    for path in (job.predictions, job.curves, job.config, job.choices, job.overrides):
        file = path.relative_to(job.path).as_posix()
        found.require(file in files or not path.exists(), file, f"is there, but {name} does not vouch for it")

    for copy in sorted(job.kept.glob("*")):
        file = copy.relative_to(job.path).as_posix()
        found.compare(copy, file, files.get(f"{job.hydra.name}/{copy.name}"), name)


def _check_theirs(folder: TheftFolder, result: Record, sealed: Record, found: Findings) -> None:
    """Check what a result repeats from its theft."""
    name, seal = RESULT, folder.seal.name
    found.counted["digests"] += 1
    found.require(found.digest(folder.seal) == result["sealed"], seal, f"is not the one that {name} was made from")
    for part in ("victim", "inputs"):
        found.require(
            result[part] == sealed[part],
            name,
            f"its {part} is not that of {seal}: {_differ(result[part], sealed[part])}",
        )
    own, theirs = _NAME.search(str(result["job_key"])), _NAME.search(folder.path.name)
    versions = range(int(sealed["key_version"]), max(int(sealed["key_version"]), KEY_VERSION) + 1)
    due = {key_hash(version, sealed["identity"]) for version in versions}
    found.require(own is not None and own[1] in due, name, f"its job_key is not that of the identity in {seal}")
    same = own is not None and theirs is not None and own[1] == theirs[1]
    found.require(same, name, f"its theft {folder.path.name} is of another key than the job")
    curves = result["files"].get(CURVES), sealed["files"].get(folder.curves.name)
    found.require(curves[0] == curves[1], CURVES, f"is not {folder.curves.name} of the theft")


def _differ(one: Any, other: Any) -> str:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return f"{one}, not {other}"
    return ", ".join(sorted(key for key in {*one, *other} if one.get(key) != other.get(key)))
