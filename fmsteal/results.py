"""Finished, failed and unfinished jobs on disk. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fmsteal.errors import StoreError
from fmsteal.lease import LEASE_SECONDS, held
from fmsteal.store import digest, read_json
from fmsteal.sweep.identity import flat, is_path

Result = dict[str, Any]  # of a finished job, as its `RESULT` holds it

SCHEMA = 1
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, where it was built
RESULT = "result.json"
FAILURE = "failure.json"
SWEEP = "sweep.json"  # of a sweep: what it was asked for
VICTIMS = "victims"  # of a sweep: the folder of the jobs that prepare its victims
INPUTS = "inputs.json"  # digests of what a job works on: its key names them, this vouches for them
EPOCHS = "epochs.json"  # of a training, beside its checkpoint: how many there will be
LEASE = ".running"  # held while somebody works on the job

DONE, RUNNING, FAILED, KILLED, MISSING, UNREADABLE = STATES = (
    "done", "running", "failed", "killed", "missing", "unreadable",
)  # fmt: skip


def finished(folder: Path, key: str, cfg: DictConfig) -> Result | None:
    """The result of job ``key`` in ``folder``, if it is finished and nothing that ``cfg`` reads was touched since.

    Where something was (another path of the same name, a file added or rewritten), the pipeline compares contents.
    """
    result = read_json(folder / RESULT)
    if isinstance(result, dict) and result.get("job_key") == key and result.get("paths") == paths(cfg):
        return result
    return None


READING = ("data", "query", "victim", "thief", "evaluation")


def paths(cfg: DictConfig, reading: Sequence[str] = READING) -> dict[str, list[Any]]:
    """The local paths that groups of a config read from, by dotted key, each with a stamp of when it was touched.

    Of a file the stamp is size and time; of a folder the times of it and of its sub-folders, two levels down.
    """
    groups = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in reading}
    found = {key: Path(value).expanduser().absolute() for key, value in flat(groups).items() if is_path(key, value)}
    return {key: [str(path), _stamp(path)] for key, path in found.items()}


def _stamp(path: Path) -> str | None:
    if path.is_file():
        return digest([path.stat().st_size, path.stat().st_mtime_ns])[:16]
    if path.is_dir():
        folders = [path, *(p for pattern in ("*", "*/*") for p in path.glob(pattern) if p.is_dir())]
        return digest(sorted((str(p), p.stat().st_mtime_ns) for p in folders))[:16]
    return None


@dataclass(frozen=True)
class Entry:
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


def of_sweep(folder: Path) -> Sweep:
    """Read the jobs of a sweep's folder that were begun."""
    sweep = Sweep()
    entries = begun(folder)
    for entry in entries:
        if entry.result is not None:
            sweep.results.append(entry.result)
        elif entry.failure is not None:
            sweep.failures.append(entry.failure)
        elif entry.state == UNREADABLE:
            sweep.failures.append({"job_key": entry.key, "error": entry.fault})
        else:
            sweep.unfinished.append(entry.key)
    sweep.victims = [e.failure for e in begun(folder / VICTIMS) if e.failure is not None]
    record, there = recorded(folder) or {}, {entry.key for entry in entries}
    sweep.waiting = {key: job["victim"] for key, job in record.get("jobs", {}).items() if key not in there}
    sweep.command = record.get("command")
    return sweep


def begun(folder: Path) -> list[Entry]:
    """The jobs that have a folder, by name; a folder that is not there has none."""
    return [entry_of(job.parent) for job in sorted(folder.glob("*/.hydra"))] if folder.is_dir() else []


def recorded(folder: Path) -> dict[str, Any] | None:
    """What a sweep was asked for, see `fmsteal.sweep.record`; None where that is not recorded, or not readably.

    Raises:
        StoreError: the record was written by a newer fmsteal.
    """
    record = read_json(folder / SWEEP)
    if not isinstance(record, dict):
        return None
    if record.get("schema", 0) > SCHEMA:
        raise StoreError(
            f"{folder / SWEEP} was written by a newer fmsteal (schema {record['schema']}, this one reads {SCHEMA}). "
            "Upgrade fmsteal, or give the sweep another name: sweep_id=..."
        )
    return record if isinstance(record.get("jobs"), dict) else None


def planned(folder: Path) -> list[Entry] | None:
    """All jobs of a sweep: those it was asked for, by key, then others that were begun. None without a record.

    Victims that somebody works on, or that failed, come first.

    Raises:
        StoreError: the record was written by a newer fmsteal.
    """
    record = recorded(folder)
    if record is None:
        return None
    there = {entry.key: entry for entry in begun(folder)}
    victims = [replace(entry, stage="victim") for entry in begun(folder / VICTIMS)]
    found = [v for v in victims if v.state == FAILED or held(v.folder / LEASE)]  # one that is prepared leaves no result
    for key, job in record["jobs"].items():
        entry, overrides = there.pop(key, None) or Entry(key, folder / key, MISSING), tuple(job.get("overrides", ()))
        known = {
            "overrides": overrides or entry.overrides,
            "axis": entry.axis or job.get("axis"),
            "cell": job.get("cell"),
        }
        found.append(replace(entry, stage="thief", **known))
    return found + list(there.values())


def entry_of(folder: Path) -> Entry:
    """A job that was begun, as its folder shows it."""
    words = _overrides(folder / ".hydra" / "overrides.yaml")
    found = Entry(folder.name, folder, KILLED, overrides=words)
    result, failure = read_json(folder / RESULT), read_json(folder / FAILURE)
    if isinstance(failure, dict):  # removed when a job starts, so it is the last word
        return replace(found, state=FAILED, failure=failure, stage=failure.get("stage"), axis=_axis(failure))
    if fault := _fault(folder / RESULT, result):
        return replace(found, state=UNREADABLE, fault=fault)
    if result is not None:
        return replace(found, state=DONE, result=result, axis=_axis(result))
    starting = time.time() - (folder / ".hydra").stat().st_mtime < LEASE_SECONDS and not _was_leased(folder)
    return replace(found, state=RUNNING) if starting or held(folder / LEASE) else found


def _axis(record: dict[str, Any]) -> dict[str, Any] | None:
    axis = record.get("axis")
    return axis if isinstance(axis, dict) else None


def _fault(file: Path, result: Any) -> str:
    """What is wrong with a result; nothing if it is whole, or not there."""
    if result is None:
        return f"{file.name} is no JSON: half-written, or damaged" if file.exists() else ""
    if not isinstance(result, dict):
        return f"{file.name} is no result"
    schema = result.get("schema", SCHEMA)
    if schema > SCHEMA:
        return f"{file.name} was written by a newer fmsteal (schema {schema}, this one reads {SCHEMA}): upgrade fmsteal"
    return ""


def _was_leased(folder: Path) -> bool:
    return folder.joinpath(f"{LEASE}.lease").exists() or folder.joinpath("work").exists()


def _overrides(file: Path) -> tuple[str, ...]:
    """The words of Hydra's list, a plain one of strings."""
    try:
        words = yaml.load(file.read_bytes(), LOADER)
    except Exception:  # absent, or damaged in whatever way
        return ()
    return tuple(map(str, words)) if isinstance(words, list) else ()
