"""What commands have left below `outputs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fmsteal.records.folders import JobFolder, TheftFolder, find_theft


def only_theft(root: Path) -> TheftFolder:
    """The one theft below ``root / outputs``."""
    found = [p for p in (root / "outputs" / "thefts").iterdir() if not p.name.startswith(".")]
    assert len(found) == 1, found
    return TheftFolder(found[0])


def theft_of_job(job: Path) -> TheftFolder:
    """The theft of a job, finished or under way."""
    found = find_theft(JobFolder(job))
    assert found is not None, job
    return found


def in_thief_training(root: Path) -> list[TheftFolder]:
    """The thefts below ``root / outputs`` whose thief has a checkpoint."""
    return [TheftFolder(p.parents[2]) for p in root.glob("outputs/thefts/*/work/thief/last.ckpt")]


def only_run(root: Path) -> Path:
    """The folder of the one job below ``root / outputs``."""
    found: Sequence[Path] = [p for p in (root / "outputs" / "runs").iterdir() if p.is_dir()]
    assert len(found) == 1, found
    return found[0]
