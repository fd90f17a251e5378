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

from fmsteal.base.errors import StoreError
from fmsteal.base.lease import LEASE_SECONDS, is_held
from fmsteal.base.store import digest, read_json, write_text
from fmsteal.identity.keys import flatten, hash_of, is_path, node_identity
from fmsteal.records.folders import HYDRA, JobFolder, SweepFolder
from fmsteal.records.honest import HONEST, find_honest
from fmsteal.records.shapes import fault_of_result, mend_failure, mend_plan

Result = dict[str, Any]  # of a finished job, as its ``result.json`` holds it

SCHEMA = 2  # of results and of what a sweep was asked for; 1 is read as well
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, where it was built
NESTED, LONG = 2000, 2**20  # brackets and characters of YAML, above which the loader in C might overflow the stack
EPOCHS = "epochs.json"  # of a training, beside its checkpoint: how many there will be

DONE, RUNNING, FAILED, KILLED, WAITING, MISSING, UNREADABLE = STATES = (
    "done", "running", "failed", "killed", "waiting", "missing", "unreadable",
)  # fmt: skip


def find_finished(folder: Path, key: str, cfg: DictConfig) -> Result | None:
    """The result of job ``key`` in ``folder``, if it has all that ``cfg`` asks for.

    It counts only while nothing that it was made from was touched. Where something was (another path of the same
    content, a file added or rewritten), the pipeline compares contents.
    """
    result, _ = _read(JobFolder(folder).result)
    if not isinstance(result, dict) or fault_of_result(result) or result.get("schema") != SCHEMA:
        return None
    same = hash_of(result["job_key"]) == hash_of(key) and result.get("asked") == digest_asked(cfg)
    return result if same and result.get("paths") == stamp_paths(cfg) else None


def keep_config(job: JobFolder) -> None:
    """Keep a copy of what Hydra wrote of a job's config, for `put_config_back`; nothing of a job without one."""
    if not job.hydra.is_dir():
        return
    job.kept.mkdir(exist_ok=True)
    for file in (job.config, job.choices, job.overrides):
        if file.is_file():
            write_text(job.kept / file.name, file.read_text())


def put_config_back(job: JobFolder) -> None:
    """Undo what Hydra wrote when a finished job was started again: its result vouches for the config it had."""
    for file in job.kept.glob("*.yaml"):
        if file.read_bytes() != (job.hydra / file.name).read_bytes():
            write_text(job.hydra / file.name, file.read_text())


def digest_asked(cfg: DictConfig) -> str:
    """A digest of the measurements that a job's config asks for, and of what its defense brings along."""
    asked = [node_identity(node, "evaluation") for node in (cfg.evaluation, *cfg.evaluations)]
    honest = find_honest(cfg)
    return digest(asked if honest is None else [*asked, node_identity(honest, HONEST)])


READING = ("data", "query", "victim", "thief", "defense", "evaluation")


def stamp_paths(cfg: DictConfig, reading: Sequence[str] = READING) -> dict[str, list[Any]]:
    """The local paths that groups of a config read from, by dotted key, each with a stamp of when it was touched.

    Of a file the stamp is size and time; of a folder the times of it and of its sub-folders, two levels down.
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
        key: its name, which is its folder's.
        folder: where it is or will be.
        state: one of `STATES`.
        stage: ``victim`` or ``thief`` where the sweep's plan says so, else None.
        overrides: the command-line words that make it this job.
        axis: its columns, where its result, its failure or the sweep's plan holds them.
        cell: names what it shares with jobs that differ in the seed alone, where the plan holds that.
        result: of a finished job.
        failure: the record of a job that raised.
        fault: of an unreadable job: what is wrong with its result.
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
    """What is on disk of a sweep.

    Attributes:
        results: of the finished jobs.
        failures: records of the jobs that raised, or whose result cannot be read.
        unfinished: keys of the jobs that were begun and neither finished nor failed: under way, or killed.
        victims: records of the victims that raised.
        waiting: the jobs that were asked for and not begun: the key of each, and its victim's.
        command: what continues the sweep, where that is recorded.
    """

    results: list[Result] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    victims: list[dict[str, Any]] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    command: str | None = None


def read_sweep(folder: Path) -> Sweep:
    """Read the jobs of a sweep's folder that were begun."""
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
    """The jobs that have a folder, by name; a folder that is not there has none."""
    return [
        JobOnDisk(job.name, job, UNREADABLE, fault=fault) if fault else read_job(job)
        for job, fault in list_job_folders(folder)
    ]


def list_job_folders(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folders of jobs in a folder, by name, each with why it cannot be looked into, if so."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            (path / HYDRA).stat()
        except PermissionError as error:
            yield path, f"its folder cannot be read: {error.strerror}"
        except OSError:  # it is no job's
            continue
        else:
            yield path, ""


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What a sweep was asked for, see `fmsteal.sweep.record`; None where that is not recorded, or not readably.

    Raises:
        StoreError: the record was written by a newer fmsteal.
    """
    file = SweepFolder(folder).record
    try:
        record = read_json(file)
    except OSError:  # somebody else's, a link to itself
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
    """All jobs of a sweep: those it was asked for, by key, then others that were begun. None without a record.

    Victims that somebody works on, or that failed, come first.

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
    ]  # one that is prepared leaves no result
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
    """A job that was begun, as its folder shows it."""
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
    """A JSON file, and what is wrong with it; neither if it is not there."""
    try:
        found = read_json(file)
    except OSError as error:
        return None, f"{file.name} cannot be read: {error.strerror}"
    if found is None and os.path.lexists(file):
        return None, f"{file.name} is no JSON: half-written, or damaged"
    return found, ""


def _fault(file: Path, result: Any) -> str:
    """What is wrong with a result; nothing if it is whole."""
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
    """The words of Hydra's list, a plain one of strings. Read event by event: no depth of nesting does any harm."""
    words, depth = [], 0
    try:
        for event in yaml.parse(file.read_bytes(), LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 1 or isinstance(event, yaml.MappingStartEvent):
                return ()
            if isinstance(event, yaml.ScalarEvent) and depth == 1:
                words.append(event.value)
    except Exception:  # absent, or damaged in whatever way
        return ()
    return tuple(words)


def load_yaml(text: str) -> Any:
    """Read YAML fast; where much of it may be nested, by the loader that gives up before the stack does."""
    nested = sum(map(text.count, ("[", "{", "- ", "? ")))
    return yaml.load(text, LOADER if nested < NESTED and len(text) < LONG else yaml.SafeLoader)
