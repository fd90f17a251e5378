"""Checks a job's measurements, each against its own files and its theft, and the result against all of them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from fmsteal.records.folders import LEDGER, PROGRAM, THIEF, JobFolder, MeasurementFolder, TheftFolder
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.records import Record, canonical_digest, read_record

SCHEMA = 1
PARTS = ("metrics", "intervals", "about")


def check_measurements(
    job: JobFolder, result: Record, theft: TheftFolder, sealed: Record | None, found: Findings
) -> list[Record]:
    """Check the measurements that a result names, and that its figures are theirs; return their records."""
    records, folders = [], []
    for name in result["measurements"]:
        folder = MeasurementFolder(theft.measurements / name)
        label = f"{theft.measurements.name}/{name}"
        record = read_record(folder.record, f"{label}/{folder.record.name}", found)
        if record is None:
            continue
        with found.reading(f"{label}/{folder.record.name}"):
            _check_one(folder, label, record, sealed, found)
            records.append(record)
            folders.append((label, folder))
    if len(records) == len(result["measurements"]):
        with found.reading(job.result.name):
            reported = (sealed or {}).get("found")
            _check_union(result, [*records, reported] if reported else records, job.result.name, found)
        with found.reading(job.predictions.name):
            _check_predictions(job, [folder for _, folder in folders], found)
    for label, folder in folders:
        _check_copies(job, label, folder, [other for _, other in folders], found)
    return records


def _check_one(folder: MeasurementFolder, label: str, record: Record, sealed: Record | None, found: Findings) -> None:
    """Check a measurement's files, its name, and whether it belongs to this theft."""
    own, spec = f"{label}/{folder.record.name}", record["spec"]
    found.require(record["schema"] == SCHEMA, own, f"is of schema {record['schema']!r}, this fmsteal reads {SCHEMA}")
    shown = record["victim_forwards"]
    found.require(isinstance(shown, int) and shown >= 0, own, f"its victim_forwards is {shown!r}")
    for name, known in record["files"].items():
        found.compare(folder.path / name, f"{label}/{name}", known, folder.record.name)
    there = {file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*") if file.is_file()}
    for name in sorted(there - {folder.record.name, *record["files"]}):
        found.add(f"{label}/{name}", f"is there, but {folder.record.name} does not vouch for it")
    due = f"{spec['name']}-{canonical_digest(spec)[:16]}"
    found.require(folder.path.name == due, own, f"is {due} by what it was measured on")
    if sealed is None:
        return
    files, inputs = sealed["files"], sealed["inputs"]
    thief = next((files[n] for n in (THIEF, PROGRAM, LEDGER) if n in files), None)
    found.require(spec["thief"] == thief, own, "was measured on another thief than the one that theft.json vouches for")
    found.require(spec["victim"] == sealed["victim"], own, "was measured against another victim than the theft's")
    for name, known in spec["images"].items():
        found.require(inputs.get(name) == known, own, f"was measured on other {name} than the theft's")


def _check_union(result: Record, records: Sequence[Record], name: str, found: Findings) -> None:
    """Check a result's figures against those measured or reported by its attack; of equal names the first counts."""
    due: dict[str, Record] = {part: {} for part in PARTS}
    for record in records:
        for metric in record["metrics"].keys() - due["metrics"].keys():
            for part in PARTS:
                if metric in record[part]:
                    due[part][metric] = record[part][metric]
    for part in PARTS:
        shown = result[part]
        for metric in sorted({*shown, *due[part]}):
            if canonical_digest(shown.get(metric)) != canonical_digest(due[part].get(metric)):
                what = {
                    "metrics": metric,
                    "intervals": f"the interval of {metric}",
                    "about": f"what is said of {metric}",
                }
                found.add(name, f"{what[part]} is {shown.get(metric)}, as measured {due[part].get(metric)}")


def _check_predictions(job: JobFolder, folders: Sequence[MeasurementFolder], found: Findings) -> None:
    """Check that a job's predictions are those of its measurements."""
    name, there = job.predictions.name, [folder.predictions for folder in folders if folder.predictions.is_file()]
    if not job.predictions.is_file():
        return
    if len(there) == 1:
        same = found.digest(job.predictions) == found.digest(there[0])
    else:
        due: dict[str, bytes] = {}
        for file in there:
            due |= _members(file)
        same = _members(job.predictions) == due
    found.require(same, name, "is not what the measurements keep")


def _check_copies(
    job: JobFolder, label: str, folder: MeasurementFolder, others: Sequence[MeasurementFolder], found: Findings
) -> None:
    """Check the job's copies of tables and pictures; where measurements share a name, the last one counts."""
    for file in sorted(file for file in folder.path.rglob("*") if file.is_file()):
        name = file.relative_to(folder.path).as_posix()
        copy = job.path / name
        if name in (folder.record.name, folder.predictions.name) or not copy.is_file():
            continue
        sources = [other.path / name for other in others if (other.path / name).is_file()]
        if sources[-1] == file:
            found.counted["digests"] += 1
            found.require(found.digest(copy) == found.digest(file), name, f"is not that of {label}")


def _members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
