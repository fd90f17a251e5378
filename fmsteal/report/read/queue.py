"""What a cluster's queue says of a sweep's jobs that were left in it (`fmsteal.records.queued`). Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fmsteal.base.slurm import InQueue
from fmsteal.records import results
from fmsteal.records.folders import HYDRA, SweepFolder
from fmsteal.records.prepared import is_prepared
from fmsteal.records.queued import THEFTS, VICTIMS, Place, Queued
from fmsteal.records.results import (
    CANCELLED,
    DONE,
    FAILED,
    KILLED,
    MISSING,
    QUEUED,
    RUNNING,
    UNREADABLE,
    WAITING,
    JobOnDisk,
)

QUEUE_SECONDS = 15.0  # between two questions to the cluster, which many may ask


@dataclass(frozen=True)
class SweepQueue:
    """The jobs of a sweep that were left in a queue.

    Attributes:
        record: what was left.
        there: those still in the queue, by id.
        unknown: which cluster does not answer, in words; "" if it does.
    """

    record: Queued = field(default_factory=lambda: Queued(Path()))
    there: Mapping[str, InQueue] = field(default_factory=dict)
    unknown: str = ""


class QueueWatch:
    """The queue's last answer about a sweep, kept for `QUEUE_SECONDS`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue, self._at = SweepQueue(), float("-inf")

    def look(self) -> SweepQueue:
        """The queue as it is, or was a few seconds ago."""
        if time.monotonic() - self._at > QUEUE_SECONDS:
            record = Queued.read(self._folder)
            there = record.ask()
            unknown = f"the Slurm cluster {record.arrays[-1].cluster} does not answer" if there is None else ""
            self._queue, self._at = SweepQueue(record, there or {}, unknown), time.monotonic()
        return self._queue


def add_queue(jobs: Sequence[JobOnDisk], queue: SweepQueue) -> list[JobOnDisk]:
    """The jobs of a sweep with what the queue knows of them; further victims come first.

    A job that waits in the queue is `QUEUED`, also one that was begun and interrupted. One that has left the queue
    without having begun is `CANCELLED`.
    """
    places = queue.record.places()
    if queue.unknown or not places:
        return list(jobs)
    victims = {job.key: job for job in jobs if job.stage == "victim"}
    for stage, key in places:
        if stage == VICTIMS and key not in victims:
            victims[key] = _find_victim(queue.record, key)
    found = [_add_place(job, places.get((VICTIMS, key)), queue) for key, job in victims.items()]
    thieves = [_add_place(job, places.get((THEFTS, job.key)), queue) for job in jobs if job.stage != "victim"]
    return [job for job in found if job.state != DONE] + thieves


def _find_victim(record: Queued, key: str) -> JobOnDisk:
    """A victim's job: done if the victim is in the store, else as its folder shows it."""
    folder = SweepFolder(record.folder).victim(key).path
    if record.cache is not None and is_prepared(record.cache, key):
        return JobOnDisk(key, folder, DONE, "victim")
    if not (folder / HYDRA).is_dir():
        return JobOnDisk(key, folder, MISSING, "victim")
    return replace(results.read_job(folder), stage="victim")


def _add_place(job: JobOnDisk, place: Place | None, queue: SweepQueue) -> JobOnDisk:
    if place is None:
        return job
    at = queue.there.get(place.id)
    if at is None:
        if job.state != MISSING:
            return job
        return replace(job, state=CANCELLED, fault=_explain(place, queue.record))
    if at.pending and job.state in (MISSING, KILLED, WAITING, FAILED, UNREADABLE):
        return replace(job, state=QUEUED, failure=None, fault=at.reason)
    if not at.pending and job.state in (MISSING, KILLED, WAITING):
        return replace(job, state=RUNNING)  # its process is starting
    return job


def _explain(place: Place, record: Queued) -> str:
    """Why a job has left the queue without having begun."""
    if place.array.cancelled:
        return "by fmsteal cancel"
    victim = place.array.victim
    if victim is not None and _find_victim(record, victim).state in (FAILED, KILLED, MISSING):
        return f"by Slurm, as their victim failed ({victim})"
    return f"by Slurm or scancel, before they began (array {place.array.id})"
