"""Runs kept offline: finding them below a folder, and choosing which to upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.base.lease import is_held
from fmsteal.records.folders import WANDB, JobFolder
from fmsteal.tracking.on_wandb import read_records


@dataclass(frozen=True)
class Fragment:
    """An offline run as one process left it; a job that was killed and resumed has several with the same id.

    Attributes:
        file: ``.../<job>/wandb/offline-run-<time>-<id>/run-<id>.wandb``.
    """

    file: Path

    @property
    def id(self) -> str:
        """The run's id."""
        return self.file.stem.removeprefix("run-")

    @property
    def job(self) -> Path:
        """The job's folder."""
        return self.file.parents[2]

    @property
    def ended(self) -> bool:
        """Whether the run was finished, successfully or not; else its process was killed, or is at work."""
        return any(record.WhichOneof("record_type") == "exit" for record in read_records(self.file))

    @property
    def synced(self) -> bool:
        """Whether its present content was uploaded: `wandb sync` leaves a marker, which may predate the content."""
        marker = self.file.with_name(f"{self.file.name}.synced")
        return marker.exists() and marker.stat().st_mtime >= self.file.stat().st_mtime


@dataclass(frozen=True)
class UploadPlan:
    """Which runs below some folders are to be uploaded.

    Attributes:
        upload: one fragment of each run: it holds everything that the earlier ones do.
        synced: how many runs are uploaded already.
        older: how many fragments are left out for another one of the same run.
        running: the folders of jobs at work; their runs can be uploaded later.
    """

    upload: Sequence[Fragment]
    synced: int
    older: int
    running: Sequence[Path]


def plan(folders: Sequence[Path], again: bool = False) -> UploadPlan:
    """Choose what to upload; with ``again``, also the runs that were uploaded before.

    The last finished fragment of a run holds all points: a job that resumes logs its earlier points again. If none was
    finished, as with a killed job, the last fragment is taken.
    """
    runs = _find_runs(folders)
    running = sorted({job for job, _ in runs if is_held(JobFolder(job).lease)})
    still = [fragments for (job, _), fragments in runs.items() if job not in running]
    chosen = [next((f for f in reversed(fragments) if f.ended), fragments[-1]) for fragments in still]
    upload = [f for f in chosen if again or not f.synced]
    return UploadPlan(upload, len(chosen) - len(upload), sum(map(len, still)) - len(chosen), running)


def _find_runs(folders: Sequence[Path]) -> dict[tuple[Path, str], list[Fragment]]:
    """Each run's fragments in the order they were written, by job and id."""
    runs: dict[tuple[Path, str], list[Fragment]] = {}
    for folder in folders:
        for file in sorted(folder.rglob(f"{WANDB}/offline-run-*/run-*.wandb")):
            fragment = Fragment(file)
            if fragment not in runs.setdefault((fragment.job, fragment.id), []):
                runs[fragment.job, fragment.id].append(fragment)
    return runs
