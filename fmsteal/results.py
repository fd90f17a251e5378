"""Finished and failed jobs on disk. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmsteal.store import read_json

SCHEMA = 1
RESULT = "result.json"
FAILURE = "failure.json"


def finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The result of job ``key`` in ``folder``, if it is finished."""
    result = read_json(folder / RESULT)
    return result if isinstance(result, dict) and result.get("job_key") == key else None


def of_sweep(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All results below a sweep's folder, and the failures of the jobs that have none."""
    results, failures = [], []
    for job in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        result, failure = read_json(job / RESULT), read_json(job / FAILURE)
        if isinstance(result, dict):
            results.append(result)
        elif isinstance(failure, dict):
            failures.append(failure)
    return results, failures
