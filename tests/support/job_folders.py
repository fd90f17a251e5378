"""Folders of jobs as commands find them: begun, aged, finished, planned."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from fmsteal.base.metric import record
from fmsteal.base.store import write_json
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.identity.keys import cell_key
from fmsteal.records.results import Result
from fmsteal.report.show.screen import show


def begun(sweep: Path, name: str, *overrides: str) -> Path:
    folder = sweep / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in overrides) or "[]\n")
    (folder / ".hydra" / "config.yaml").write_text(
        "budget: {queries: 300}\nrecipe: {epochs: 20}\nthief: {recipe: '${recipe}'}\nseed: 3\n"
    )
    return folder


def aged(folder: Path) -> Path:
    """Begun long ago."""
    os.utime(folder / ".hydra", (time.time() - 3600,) * 2)
    return folder


def finish(folder: Path, seconds: float = 10.0, **more: object) -> None:
    result = {
        "schema": 1,
        "job_key": folder.name,
        "axis": {"victim": "v", "seed": 0},
        "cost": {"cost/seconds": seconds},
    }
    write_json(folder / "result.json", {**result, "metrics": {"test/agreement": 0.5}, **more})


def plan(sweep: Path, *keys: str, overrides: tuple[str, ...] = (), command: str | None = None) -> None:
    jobs = {key: {"victim": "v", "overrides": list(overrides)} for key in keys}
    write_json(sweep / "sweep.json", {"schema": 1, "jobs": jobs, "command": command})


def said(sweep: Path, capsys: pytest.CaptureFixture[str]) -> str:
    show(sweep, Console(width=160))
    return capsys.readouterr().out


def axis(seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"victim": "a", "thief": "t", "budget": "100", "queries": 100, "data": "digits", "seed": seed, **more}


def done(sweep: Path, name: str, agreement: float, settings: dict[str, Any] | None = None, **more: Any) -> None:
    columns = axis(**more)
    result = {
        "schema": 1, "job_key": name, "axis": columns, "settings": settings or {}, "budget": columns["queries"],
        "metrics": {"test/agreement": agreement}, "cost": {"cost/seconds": 2.0},
    }  # fmt: skip
    write_json(begun(sweep, name) / "result.json", result)


def asked(sweep: Path, jobs: dict[str, dict[str, Any]]) -> None:
    """A plan, as the sweeper records it."""
    plan = {key: {"victim": "v", "overrides": [], "axis": a, "cell": cell_key(a, {})} for key, a in jobs.items()}
    write_json(sweep / "sweep.json", {"schema": 1, "jobs": plan})


def result(agreement: float, seed: int = 0, settings: dict[str, object] | None = None, **axis: object) -> Result:
    names = {"victim": "v", "thief": "t", "budget": "1k", "queries": 1000, "seed": seed, **axis}
    figures = {"test/agreement": agreement, "test/accuracy": 0.5, "test/victim_accuracy": 0.9}
    same = {"victim.seed": -1, **{f"{k}.x": v for k, v in names.items() if k != "seed"}, **(settings or {})}
    return {"axis": names, "settings": same, "metrics": figures, "budget": names["queries"], "job_key": f"j{seed}"}


N, CLASSES = 90, 7


def evaluated(sweep: Path, name: str = "j", seed: int = 0, replaced: bool = False) -> Path:
    """A job's folder with what the real evaluation of random logits leaves; ``replaced``: of a victim by another."""
    random = torch.Generator().manual_seed(seed)
    victim, noise = (torch.randn(N, CLASSES, generator=random) for _ in range(2))
    labels = torch.randint(CLASSES, (N,), generator=random)
    original = torch.randn(N, CLASSES, generator=random) if replaced else None
    measured = ClassifierEvaluation(k=3, also={}).compare(victim, victim + noise, labels, original)
    folder = begun(sweep, name)
    np.savez(folder / "predictions.npz", **measured.predictions)  # type: ignore[arg-type]
    result = {"schema": 1, "job_key": name, "axis": {"seed": seed}}
    write_json(folder / "result.json", {**result, **record(measured.metrics)})
    return folder
