"""Where the files of jobs, sweeps and thefts lie; each file name is defined once. Imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fmsteal.base.store import read_json

LONGEST_NAME = 255  # bytes of a file's name
HYDRA = ".hydra"  # Hydra's copy of a job's config
LOG = "fmsteal.log"  # a job's log
LEASE = ".running"  # held while a process works in a folder
WORK = "work"  # checkpoints and other temporary files of a run under way
THEFTS = "thefts"  # below the output folder
RUNS = "runs"
SWEEPS = "sweeps"
VICTIMS = "victims"  # below a sweep's folder
CELLS = "cells"  # below a sweep's folder
SERVICES = "services"  # below the output folder: the records of `fmsteal serve`
WANDB = "wandb"  # W&B's own folder, in a job's folder
TENSORBOARD = "tensorboard"  # TensorBoard's, likewise
RESULT = "result.json"
PREDICTIONS = "predictions.npz"
CURVES = "metrics.csv"
LEDGER = "ledger.bin"
LEDGER_HEAD = ".head"  # suffix of the file beside the ledger that holds a copy of its header
DEFENSE_LOG = "defense.log"
THIEF = "thief.safetensors"
PROGRAM = "thief.pt2"
TABLES = "tables"
COST = "cost.json"


@dataclass(frozen=True)
class JobFolder:
    """A job's folder: its result, its config, its log, its runs in W&B. The theft lies in a `TheftFolder`."""

    path: Path

    @property
    def result(self) -> Path:
        """Written last: it vouches for the other files."""
        return self.path / RESULT

    @property
    def failure(self) -> Path:
        """What the job raised; removed when it starts again."""
        return self.path / "failure.json"

    @property
    def predictions(self) -> Path:
        """From these its figures can be computed again."""
        return self.path / PREDICTIONS

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.path / CURVES

    @property
    def tables(self) -> Path:
        """Folder of the tables that its measurements show."""
        return self.path / TABLES

    @property
    def work(self) -> Path:
        """Folder of files that are needed until the job is finished."""
        return self.path / WORK

    @property
    def cost(self) -> Path:
        """Seconds and forward passes of a job under way so far."""
        return self.work / COST

    @property
    def lease(self) -> Path:
        """Held while a process works on the job."""
        return self.path / LEASE

    @property
    def log(self) -> Path:
        """The job's log."""
        return self.path / LOG

    @property
    def hydra(self) -> Path:
        """Folder of Hydra's files; it exists once the job has begun."""
        return self.path / HYDRA

    @property
    def config(self) -> Path:
        """The whole composed config."""
        return self.hydra / "config.yaml"

    @property
    def choices(self) -> Path:
        """Hydra's own config, with the chosen files."""
        return self.hydra / "hydra.yaml"

    @property
    def overrides(self) -> Path:
        """The overrides of the command line."""
        return self.hydra / "overrides.yaml"

    @property
    def kept(self) -> Path:
        """Folder of copies of Hydra's files that belong to its result: Hydra rewrites its own at each start."""
        return self.hydra / "kept"

    @property
    def wandb(self) -> Path:
        """Folder of its offline W&B runs."""
        return self.path / WANDB

    @property
    def tensorboard(self) -> Path:
        """Folder of its events for TensorBoard."""
        return self.path / TENSORBOARD

    @property
    def theft(self) -> Path:
        """Names its theft's folder until its result does."""
        return self.path / "theft.txt"

    @property
    def waiting(self) -> Path:
        """Names the theft that another process works on; the job has ended and is to be run again."""
        return self.path / "waiting.json"

    @property
    def forced(self) -> Path:
        """Marks a forced job under way whose earlier files are set aside."""
        return self.work / "forced"

    @property
    def old_ledger(self) -> Path:
        """The ledger of a job of schema 1, from before thefts had folders."""
        return self.path / LEDGER


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder: its record, and a `JobFolder` for each job."""

    path: Path

    @property
    def record(self) -> Path:
        """What the sweep was asked for."""
        return self.path / "sweep.json"

    @property
    def victims(self) -> Path:
        """Folder of the jobs that prepare its victims."""
        return self.path / VICTIMS

    @property
    def queued(self) -> Path:
        """Which of its jobs were left in a cluster's queue."""
        return self.path / "queued.json"

    @property
    def submitting(self) -> Path:
        """Held while a command puts jobs into a cluster's queue."""
        return self.path / ".submitting"

    @property
    def conf(self) -> Path:
        """Folder of the configs its jobs are composed from."""
        return self.path / ".conf"

    @property
    def code(self) -> Path:
        """Folder of the code they run."""
        return self.path / ".code"

    @property
    def search(self) -> Path:
        """The trials of a search, in Optuna's own format (SQLite)."""
        return self.path / "search.db"

    @property
    def best(self) -> Path:
        """The best trial of a search, as Hydra's own sweepers write it."""
        return self.path / "optimization_results.yaml"

    @property
    def audit(self) -> AuditFolder:
        """What `fmsteal audit` makes of its jobs, if it is an audit."""
        return AuditFolder(self.path / "audit")

    def command(self, name: str) -> Path:
        """Held by one of the commands that run the sweep."""
        return self.path / f".command-{name}"

    def commands(self) -> list[Path]:
        """The leases that commands hold, or have left behind."""
        return [lease.with_suffix("") for lease in self.path.glob(".command-*.lease")]

    def job(self, key: str) -> JobFolder:
        """The folder of one of its jobs."""
        return JobFolder(self.path / key)

    def victim(self, key: str) -> JobFolder:
        """The folder of the job that prepares a victim."""
        return JobFolder(self.victims / key)

    def cell(self, key: str) -> CellFolder:
        """The folder of a cell's run."""
        return CellFolder(self.path / CELLS / key)


@dataclass(frozen=True)
class AuditFolder:
    """What an audit found, below the folder of its sweep."""

    path: Path

    @property
    def page(self) -> Path:
        """For people."""
        return self.path / "audit.html"

    @property
    def document(self) -> Path:
        """The same for programs."""
        return self.path / "audit.json"


@dataclass(frozen=True)
class CellFolder:
    """The folder of the run of a cell, its means over seeds, in a tracking service."""

    path: Path

    @property
    def sent(self) -> Path:
        """What was sent last."""
        return self.path / "sent.json"


@dataclass(frozen=True)
class TheftFolder:
    """A theft's folder: the ledger, the thief, and its measurements."""

    path: Path

    @property
    def seal(self) -> Path:
        """Written last; without it the theft is still open."""
        return self.path / "theft.json"

    @property
    def begun(self) -> Path:
        """The theft's key, identity and inputs, written before the first question."""
        return self.path / "begun.json"

    @property
    def refused(self) -> Path:
        """Why a theft was not sealed."""
        return self.path / "refused.json"

    @property
    def ledger(self) -> Path:
        """Every answer, in the order of payment."""
        return self.path / LEDGER

    @property
    def ledger_head(self) -> Path:
        """A copy of the ledger's header."""
        return self.ledger.with_suffix(LEDGER_HEAD)

    @property
    def defense_log(self) -> Path:
        """What the defense recorded for each answer."""
        return self.path / DEFENSE_LOG

    @property
    def thief(self) -> Path:
        """The stolen model's weights, if it was made through the context."""
        return self.path / THIEF

    @property
    def program(self) -> Path:
        """The stolen model as saved by `torch.export`, if it is any other module."""
        return self.path / PROGRAM

    @property
    def curves(self) -> Path:
        """The training curves."""
        return self.path / "curves.csv"

    @property
    def work(self) -> Path:
        """Folder of checkpoints and saved choices, until the theft is sealed."""
        return self.path / WORK

    @property
    def cost(self) -> Path:
        """Seconds and forward passes so far."""
        return self.work / COST

    @property
    def lease(self) -> Path:
        """Held by the one process that works on the theft."""
        return self.path / LEASE

    @property
    def measurements(self) -> Path:
        """Folder that holds a `MeasurementFolder` for each measurement."""
        return self.path / "measurements"


@dataclass(frozen=True)
class ServiceFolder:
    """What `fmsteal serve` keeps of one victim with its defense."""

    path: Path

    @property
    def books(self) -> Path:
        """Requests, answers, charges, and what the defense remembers: an SQLite database."""
        return self.path / "service.db"

    @property
    def access(self) -> Path:
        """A line of JSON for each request."""
        return self.path / "access.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one service that uses the folder."""
        return self.path / ".lock"


@dataclass(frozen=True)
class MeasurementFolder:
    """A measurement's folder, below its theft's. It is complete as soon as it exists."""

    path: Path

    @property
    def record(self) -> Path:
        """Its figures, and what they were measured on."""
        return self.path / "measurement.json"

    @property
    def predictions(self) -> Path:
        """From these its figures can be computed again."""
        return self.path / PREDICTIONS

    @property
    def shown(self) -> Path:
        """The tables and pictures that it showed, in order."""
        return self.path / "shown.json"

    @property
    def pictures(self) -> Path:
        """The pictures that it showed."""
        return self.path / "pictures.npz"

    @property
    def tables(self) -> Path:
        """Folder of its tables."""
        return self.path / TABLES


def find_theft(job: JobFolder) -> TheftFolder | None:
    """The theft of a job, as named by its result or, while it is under way, by its `JobFolder.theft`.

    Both hold the folder's path, absolute or relative to the job's folder. None for a victim's job, for a job that has
    not reached its theft, and for one of schema 1, whose theft lies in its own folder.
    """
    try:
        result = read_json(job.result)
        place = result.get("theft") if isinstance(result, dict) else None
        if not isinstance(place, str):
            place = job.theft.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    whole = "\0" not in place and all(len(os.fsencode(part)) <= LONGEST_NAME for part in place.split("/"))
    return TheftFolder(job.path / place) if place and whole else None
