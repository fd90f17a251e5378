"""What a cluster's queue adds to what the folders show, and what is said where the cluster does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.slurm import InQueue
from fmsteal.base.store import write_json
from fmsteal.records.folders import HYDRA, JobFolder, SweepFolder
from fmsteal.records.prepared import find_note
from fmsteal.records.queued import THEFTS, VICTIMS, Array, Queued, name_arrays
from fmsteal.records.results import CANCELLED, DONE, FAILED, KILLED, MISSING, QUEUED, RUNNING, JobOnDisk
from fmsteal.report.read.queue import QueueWatch, SweepQueue, add_queue
from fmsteal.report.read.status import Status

PENDING, WORKING = InQueue("PENDING", "Dependency"), InQueue("RUNNING", "None")


def array(number: int, stage: str, *keys: str, victim: str | None = None, cancelled: bool = False) -> Array:
    jobs = {key: f"{number}_{place}" for place, key in enumerate(keys)}
    return Array(str(number), stage, jobs, "far", "me", victim, cancelled)


def left(sweep: Path, *arrays: Array) -> Queued:
    return Queued(sweep).write(arrays, sweep / "cache")


def job(sweep: Path, key: str, state: str) -> JobOnDisk:
    return JobOnDisk(key, sweep / key, state, "thief")


def states(found: list[JobOnDisk]) -> dict[str, str]:
    return {job.key: job.state for job in found}


def test_jobs_in_the_queue_wait_or_start(tmp_path: Path) -> None:
    """Also those that have failed and were submitted again, and those that Slurm has interrupted."""
    record = left(tmp_path, array(1, THEFTS, *"abcdef"))
    there = {"1_0": PENDING, "1_1": PENDING, "1_2": PENDING, "1_3": WORKING, "1_4": WORKING}
    before = (MISSING, KILLED, FAILED, MISSING, DONE, RUNNING)
    jobs = [job(tmp_path, key, state) for key, state in zip("abcdef", before, strict=True)]
    found = add_queue(jobs, SweepQueue(record, there))
    after = (QUEUED, QUEUED, QUEUED, RUNNING, DONE, RUNNING)
    assert states(found) == dict(zip("abcdef", after, strict=True))
    assert found[0].fault == "Dependency"


def test_jobs_that_left_the_queue_unbegun_are_cancelled_for_a_reason(tmp_path: Path) -> None:
    """The victim ``bad`` raised, ``dead`` was killed; ``good`` is in the store, so that its theft ended otherwise."""
    victims = array(1, VICTIMS, "bad-1", "dead-2", "good-3")
    of = [array(n, THEFTS, key, victim=v) for n, key, v in ((2, "a", "bad-1"), (3, "b", "dead-2"), (4, "c", "good-3"))]
    record = left(tmp_path, victims, *of, array(5, THEFTS, "d", cancelled=True))
    for key in ("bad-1", "dead-2", "good-3"):
        (SweepFolder(tmp_path).victim(key).path / HYDRA).mkdir(parents=True)
        (SweepFolder(tmp_path).victim(key).path / "work").mkdir()
    write_json(JobFolder(tmp_path / "victims" / "bad-1").failure, {"job_key": "bad-1", "error": "RuntimeError: no"})
    note = find_note(tmp_path / "cache", "good-3")
    note.parent.mkdir(parents=True)
    write_json(note, {"place": None})
    found = add_queue([job(tmp_path, key, MISSING) for key in "abcd"], SweepQueue(record, {}))
    assert states(found) == {"bad-1": FAILED, "dead-2": KILLED, **dict.fromkeys("abcd", CANCELLED)}
    reasons = [entry.fault for entry in found[2:]]
    assert reasons[0] == "by Slurm, as their victim failed (bad-1)" and "victim failed (dead-2)" in reasons[1]
    assert reasons[2] == "by Slurm or scancel, before they began (array 4)" and reasons[3] == "by fmsteal cancel"


def test_the_latest_submission_counts(tmp_path: Path) -> None:
    record = left(tmp_path, array(1, THEFTS, "a", cancelled=True), array(2, THEFTS, "a"))
    assert states(add_queue([job(tmp_path, "a", MISSING)], SweepQueue(record, {"2_0": PENDING}))) == {"a": QUEUED}
    assert name_arrays(record.arrays) == "arrays 1, 2"


def test_where_the_cluster_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue
    left(tmp_path, array(1, THEFTS, "a"))
    queue = QueueWatch(tmp_path).look()
    assert queue.unknown == "the Slurm cluster far does not answer"
    assert states(add_queue([job(tmp_path, "a", MISSING)], queue)) == {"a": MISSING}
    assert not Status.of(tmp_path).moving


@pytest.mark.parametrize("text", ["", "[]", '{"arrays": 3}', '{"arrays": [{"id": 1}]}', '{"arrays": [[]]}'])
def test_a_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    SweepFolder(tmp_path).queued.write_text(text)
    assert Queued.read(tmp_path) == Queued(tmp_path)
