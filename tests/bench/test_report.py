"""A report over 1,000 finished jobs: seconds, from the folders to the files.

    pytest tests/bench/test_report.py -n 0 --benchmark-enable --benchmark-only

The jobs are made here, each with a result and predictions as a real one leaves them: 2,000 test images, 10 classes.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base.metric import record
from fmsteal.base.store import write_json
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.identity.keys import cell_key
from tests.bench.table import Row, note
from tests.support.commands import command, environment

IMAGES, CLASSES, LIMIT = 2000, 10, 20.0
AXES = {
    "attack": ("knockoff", "activethief", "jbda", "copycat", "mixmatch"),
    "defense": ("none", "top_k", "rounding", "hard_label"),
    "thief": ("resnet10t", "efficientnet_lite0"),
    "budget": ("100", "500", "1k", "2k5", "5k"),
    "seed": (0, 1, 2, 3, 4),
}  # 1,000 jobs
QUERIES = {"100": 100, "500": 500, "1k": 1000, "2k5": 2500, "5k": 5000}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 jobs, evaluated by the real evaluation, on logits that are drawn."""
    import torch

    folder = tmp_path_factory.mktemp("bench") / "thousand"
    random, jobs = torch.Generator().manual_seed(0), {}
    victim, labels = torch.randn(IMAGES, CLASSES, generator=random), torch.arange(IMAGES) % CLASSES
    settings = {f"thief.recipe.option{n}": n for n in range(120)}  # about as many as a real job has
    for number, choice in enumerate(itertools.product(*AXES.values())):
        axis: dict[str, Any] = {"data": "digits", "victim": "resnet10t", **dict(zip(AXES, choice, strict=True))}
        axis["queries"] = QUERIES[axis["budget"]]
        noise = torch.randn(IMAGES, CLASSES, generator=random) * (30 / axis["queries"] ** 0.5)
        measured = ClassifierEvaluation(also={}).compare(victim, victim + noise, labels)
        key = f"j{number:04d}"
        job = folder / key
        (job / ".hydra").mkdir(parents=True)
        (job / ".hydra" / "overrides.yaml").write_text("".join(f"- {k}={v}\n" for k, v in axis.items()))
        np.savez(job / "predictions.npz", **measured.predictions)  # type: ignore[arg-type]
        write_json(job / "result.json", {
            "schema": 1, "job_key": key, "axis": axis, "settings": settings,
            **record(measured.metrics), "budget": axis["queries"],
            "cost": {"cost/queries": axis["queries"], "cost/seconds": 3.0 + number % 7},
        })  # fmt: skip
        plan = {"victim": "v", "overrides": [f"{k}={v}" for k, v in axis.items()], "axis": axis}
        jobs[key] = {**plan, "cell": cell_key(axis, settings)}
    write_json(folder / "sweep.json", {"schema": 1, "jobs": jobs, "command": "fmsteal -m ..."})
    assert len(jobs) == 1000
    return folder


@pytest.mark.parametrize("formats", ["md,tex,png,pdf,html", "none"])
def test_report(benchmark: Any, sweep: Path, tmp_path: Path, formats: str) -> None:
    def run() -> float:
        began = time.monotonic()
        words = command("report", str(sweep), "--out", str(tmp_path / "out"), "--formats", formats)
        subprocess.run(words, check=True, env=environment(), capture_output=True)
        return time.monotonic() - began

    seconds = benchmark.pedantic(run, rounds=3, iterations=1)
    note(Row(f"a report of 1,000 jobs: {formats}", "limit", LIMIT, seconds))
    assert seconds < LIMIT


def test_verify(benchmark: Any, sweep: Path) -> None:
    def run() -> float:
        began = time.monotonic()
        subprocess.run(command("verify", str(sweep)), check=True, env=environment(), capture_output=True)
        return time.monotonic() - began

    seconds = benchmark.pedantic(run, rounds=3, iterations=1)
    note(Row("verify of 1,000 jobs' figures", "limit", LIMIT, seconds))
    assert seconds < LIMIT
