"""Finished, failed and unfinished jobs on disk. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.agent import is_logged
from fmsteal.base.errors import StoreError
from fmsteal.base.lease import LEASE_SECONDS, is_held
from fmsteal.base.store import digest, read_json, write_text
from fmsteal.identity.keys import flatten, hash_of, is_path, node_identity
from fmsteal.records.folders import HYDRA, JobFolder, SweepFolder
from fmsteal.records.honest import HONEST, find_honest
from fmsteal.records.shapes import fault_of_result, mend_failure, mend_plan

Result = dict[str, Any]  # a finished job's ``result.json``

SCHEMA = 2  # of results and of sweeps' records; schema 1 is read as well
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast, where it was built
NESTED, LONG = 2000, 2**20  # brackets and characters of YAML above which the C loader might overflow the stack
EPOCHS = "epochs.json"  # beside a training's checkpoint: how many epochs there will be

DONE, RUNNING, QUEUED, FAILED, KILLED, CANCELLED, WAITING, MISSING, UNREADABLE = STATES = (
    "done", "running", "queued", "failed", "killed", "cancelled", "waiting", "missing", "unreadable",
)  # fmt: skip
# What a cluster's queue knows (queued, cancelled) is added by `fmsteal.report.read.queue`; the folders do not show it.


def find_finished(folder: Path, key: str, cfg: DictConfig) -> Result | None:
    """The result of job ``key`` in ``folder``, if it has everything that ``cfg`` asks for.

    It counts only if none of its inputs has been touched since. If one has (another path with the same content, a file
    added or rewritten), the pipeline compares contents. If `wandb agent` asks for it in a run of its own, it counts
    once it is logged there.
    """
    result, _ = _read(JobFolder(folder).result)
    if not isinstance(result, dict) or fault_of_result(result) or result.get("schema") != SCHEMA:
        return None
    same = hash_of(result["job_key"]) == hash_of(key) and result.get("asked") == digest_asked(cfg)
    return result if same and result.get("paths") == stamp_paths(cfg) and is_logged(result) else None


def keep_config(job: JobFolder) -> None:
    """Copy the config files that Hydra wrote for a job, for `put_config_back`; do nothing if there are none."""
    if not job.hydra.is_dir():
        return
    job.kept.mkdir(exist_ok=True)
    for file in (job.config, job.choices, job.overrides):
        if file.is_file():
            write_text(job.kept / file.name, file.read_text())


def put_config_back(job: JobFolder) -> None:
    """Restore the config of a finished job that was started again: its result belongs to the config it had before."""
    for file in job.kept.glob("*.yaml"):
        if file.read_bytes() != (job.hydra / file.name).read_bytes():
            write_text(job.hydra / file.name, file.read_text())


def digest_asked(cfg: DictConfig) -> str:
    """A digest of the measurements that a job's config asks for, and of the one that its defense adds."""
    asked = [node_identity(node, "evaluation") for node in (cfg.evaluation, *cfg.evaluations)]
    honest = find_honest(cfg)
    return digest(asked if honest is None else [*asked, node_identity(honest, HONEST)])


READING = ("data", "query", "victim", "thief", "defense", "evaluation")


def stamp_paths(cfg: DictConfig, reading: Sequence[str] = READING) -> dict[str, list[Any]]:
    """The local paths that groups of a config read from, by dotted key, each with a stamp of when it last changed.

    A file's stamp is its size and time; a folder's is its own time and those of its sub-folders, two levels down.
    """
    groups = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in reading}
    found = {key: Path(value).expanduser().absolute() for key, value in flatten(groups).items() if is_path(key, value)}
    return {key: [str(path), _stamp(path)] for key, path in found.items()}


def _stamp(path: Path) -> str | None:
    if path.is_file():
        return digest([path.stat().st_size, path.stat().st_mtime_ns])[:16]
    if path.is_dir():
        folders = [path, *(p for pattern in ("*", "*/*") for p in path.glob(pattern) if p.is_dir())]
        return digest(sorted((str(p), p.stat().st_mtime_ns) for p in folders))[:16]
    return None


@dataclass(frozen=True)
class JobOnDisk:
    """A job of a sweep, as its folder shows it.

    Attributes:
        key: its key, which is also its folder's name.
        folder: its folder, which may not exist yet.
        state: one of `STATES`.
        stage: ``victim`` or ``thief`` where the sweep's plan says so, else None.
        overrides: the command-line words that make it this job.
        axis: its columns, if its result, its failure or the sweep's plan holds them.
        cell: the key of its cell, if the plan holds it.
        result: its result, if it is finished.
        failure: its failure record, if it raised.
        fault: what is wrong with its result, if it is unreadable; why it is queued or was cancelled, if it is.
    """

    key: str
    folder: Path
    state: str
    stage: str | None = None
    overrides: tuple[str, ...] = ()
    axis: dict[str, Any] | None = None
    cell: str | None = None
    result: Result | None = None
    failure: dict[str, Any] | None = None
    fault: str = ""


@dataclass
class Sweep:
    """A sweep as it is on disk.

    Attributes:
        results: the results of the finished jobs.
        failures: records of the jobs that raised, or whose result cannot be read.
        unfinished: keys of the jobs that have begun but neither finished nor failed: under way, or killed.
        victims: records of the victims that raised.
        waiting: the jobs that were asked for but have not begun: each job's key, with its victim's.
        command: the command that continues the sweep, if it is recorded.
    """

    results: list[Result] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    victims: list[dict[str, Any]] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    command: str | None = None


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder."""
    sweep = Sweep()
    entries = list_begun(folder)
    for entry in entries:
        if entry.result is not None:
            sweep.results.append(entry.result)
        elif entry.failure is not None:
            sweep.failures.append(entry.failure)
        elif entry.state == UNREADABLE:
            sweep.failures.append({"job_key": entry.key, "error": entry.fault})
        else:
            sweep.unfinished.append(entry.key)
    sweep.victims = [e.failure for e in list_begun(SweepFolder(folder).victims) if e.failure is not None]
    record, there = read_plan(folder) or {}, {entry.key for entry in entries}
    sweep.waiting = {key: job["victim"] for key, job in record.get("jobs", {}).items() if key not in there}
    sweep.command = record.get("command")
    return sweep


def list_begun(folder: Path) -> list[JobOnDisk]:
    """The jobs that have a folder in ``folder``, by name; none if ``folder`` does not exist."""
    return [
        JobOnDisk(job.name, job, UNREADABLE, fault=fault) if fault else read_job(job)
        for job, fault in list_job_folders(folder)
    ]


def list_job_folders(folder: Path) -> Iterator[tuple[Path, str]]:
    """The job folders in a folder, by name, each with the reason why it cannot be read, or ""."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            (path / HYDRA).stat()
        except PermissionError as error:
            yield path, f"its folder cannot be read: {error.strerror}"
        except OSError:  # not a job's folder
            continue
        else:
            yield path, ""


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What a sweep was asked for, see `fmsteal.sweep.record`; None if there is no record, or it cannot be read.

    Raises:
        StoreError: the record was written by a newer fmsteal.
    """
    file = SweepFolder(folder).record
    try:
        record = read_json(file)
    except OSError:  # another user's file, or a link to itself
        return None
    if not isinstance(record, dict):
        return None
    schema = record.get("schema", 0)
    if isinstance(schema, int) and schema > SCHEMA:
        raise StoreError(
            f"{file} was written by a newer fmsteal (schema {schema}, this one reads {SCHEMA}). "
            "Upgrade fmsteal, or give the sweep another name: sweep_id=..."
        )
    return mend_plan(record) if isinstance(schema, int) and isinstance(record.get("jobs"), dict) else None


def list_planned(folder: Path) -> list[JobOnDisk] | None:
    """All jobs of a sweep: those it was asked for, by key, then any others that have begun. None without a record.

    Victims that failed or that a process works on come first.

    Raises:
        StoreError: the record was written by a newer fmsteal.
    """
    record = read_plan(folder)
    if record is None:
        return None
    there = {entry.key: entry for entry in list_begun(folder)}
    victims = [replace(entry, stage="victim") for entry in list_begun(SweepFolder(folder).victims)]
    found = [
        v for v in victims if v.state == FAILED or is_held(JobFolder(v.folder).lease)
    ]  # a prepared victim leaves no result
    for key, job in record["jobs"].items():
        entry, overrides = (
            there.pop(key, None) or JobOnDisk(key, folder / key, MISSING),
            tuple(job.get("overrides", ())),
        )
        known = {
            "overrides": overrides or entry.overrides,
            "axis": entry.axis or job.get("axis"),
            "cell": job.get("cell"),
        }
        found.append(replace(entry, stage="thief", **known))
    return found + list(there.values())


def read_job(folder: Path) -> JobOnDisk:
    """A job that has begun, as its folder shows it."""
    job = JobFolder(folder)
    found = JobOnDisk(folder.name, folder, KILLED, overrides=_overrides(job.overrides))
    if os.path.lexists(job.failure):  # removed when a job starts, so it is the last word
        failure = mend_failure(_read(job.failure)[0], folder.name)
        return replace(found, state=FAILED, failure=failure, stage=failure.get("stage"), axis=failure.get("axis"))
    result, fault = _read(job.result)
    if fault := fault or ("" if result is None else _fault(job.result, result)):
        return replace(found, state=UNREADABLE, fault=fault)
    if result is not None:
        return replace(found, state=DONE, result={"job_key": folder.name, **result}, axis=result["axis"])
    if is_held(job.lease):
        return replace(found, state=RUNNING)
    if job.waiting.exists():
        return replace(found, state=WAITING)
    starting = time.time() - job.hydra.stat().st_mtime < LEASE_SECONDS and not _was_leased(job)
    return replace(found, state=RUNNING) if starting else found


def _read(file: Path) -> tuple[Any, str]:
    """The content of a JSON file, and what is wrong with it; neither if it does not exist."""
    try:
        found = read_json(file)
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    if found is None and os.path.lexists(file):
        return None, f"{file.name} is no JSON: half-written, or damaged"
    return found, ""


def _fault(file: Path, result: Any) -> str:
    """What is wrong with a result; "" if it is valid."""
    schema = result.get("schema", SCHEMA) if isinstance(result, dict) else SCHEMA
    if not isinstance(schema, int) or isinstance(schema, bool):
        return f"{file.name} is no result: its schema is {schema!r:.60}"
    if schema > SCHEMA:
        return f"{file.name} was written by a newer fmsteal (schema {schema}, this one reads {SCHEMA}): upgrade fmsteal"
    fault = fault_of_result(result)
    return f"{file.name} {fault}" if fault else ""


def _was_leased(job: JobFolder) -> bool:
    return job.lease.with_name(f"{job.lease.name}.lease").exists() or job.work.exists() or job.theft.exists()


def _overrides(file: Path) -> tuple[str, ...]:
    """The overrides in Hydra's file, a plain list of strings. Read event by event, so deep nesting does no harm."""
    words, depth = [], 0
    try:
        for event in yaml.parse(file.read_bytes(), LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 1 or isinstance(event, yaml.MappingStartEvent):
                return ()
            if isinstance(event, yaml.ScalarEvent) and depth == 1:
                words.append(event.value)
    except Exception:  # absent, or damaged in any way
        return ()
    return tuple(words)


def load_yaml(text: str) -> Any:
    """Read YAML fast; text that may be deeply nested goes to the loader that gives up before the stack overflows."""
    nested = sum(map(text.count, ("[", "{", "- ", "? ")))
    return yaml.load(text, LOADER if nested < NESTED and len(text) < LONG else yaml.SafeLoader)
