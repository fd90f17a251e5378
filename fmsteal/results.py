"""Finished, failed and unfinished jobs on disk. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.store import read_json

SCHEMA = 1
RESULT = "result.json"
FAILURE = "failure.json"
INPUTS = "inputs.json"  # digests of what a job works on: its key names them, this vouches for them


def finished(folder: Path, key: str, cfg: DictConfig) -> dict[str, Any] | None:
    """The result of job ``key`` in ``folder``, if it is finished and was made from the very paths that ``cfg`` names.

    Another path of the same name may hold the same data or other data: the pipeline finds out.
    """
    result = read_json(folder / RESULT)
    if isinstance(result, dict) and result.get("job_key") == key and result.get("paths") == paths(cfg):
        return result
    return None


def paths(cfg: DictConfig) -> dict[str, str]:
    """The absolute local paths that a config reads from, by dotted key."""
    found: dict[str, str] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                walk(inner, f"{key}.{name}" if key else str(name))
        elif isinstance(node, str) and key.endswith(("root", "weights")) and node != "hub" and ":" not in node:
            found[key] = str(Path(node).expanduser().absolute())

    for group in ("data", "query", "victim", "thief"):
        walk(OmegaConf.to_container(cfg[group], resolve=True), group)
    return found


@dataclass
class Sweep:
    """What is on disk of a sweep.

    Attributes:
        results: of the finished jobs.
        failures: records of the jobs that raised.
        unfinished: keys of the jobs that were begun and neither finished nor failed: under way, or killed.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def of_sweep(folder: Path) -> Sweep:
    """Read a sweep's folder."""
    sweep = Sweep()
    jobs = sorted(p.parent for p in folder.glob("*/.hydra")) if folder.is_dir() else []
    for job in jobs:
        result, failure = read_json(job / RESULT), read_json(job / FAILURE)
        if isinstance(result, dict):
            sweep.results.append(result)
        elif isinstance(failure, dict):
            sweep.failures.append(failure)
        else:
            sweep.unfinished.append(job.name)
    return sweep
