"""Folders of sweeps as a report finds them: finished, failed, cut off and half-written jobs with all that they say."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from fmsteal.base.store import read_json, write_json
from tests.support.job_folders import aged, asked, axis, begun, done

NASTY = "<script>alert(1)</script>"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LAST_LINE = "RuntimeError: </script><b>weights & biases</b> are not finite"
ENV = {
    "git": COMMIT, "git_dirty": False, "python": "3.11.7", "packages": {"fmsteal": "0.1.0", "torch": "2.14.1"},
    "cpu": "AMD EPYC", "cores": 2, "threads": 2, "gpus": [], "platform": "Linux",
}  # fmt: skip


def finished(sweep: Path, name: str, agreement: float, env: dict[str, Any] | None = None, **more: Any) -> None:
    """A job with every figure of a classifier's evaluation."""
    done(sweep, name, agreement, **more)
    file, queries = sweep / name / "result.json", more.get("queries", 100)
    result = read_json(file)
    result["metrics"] |= {
        "test/accuracy": 0.9 * agreement, "test/victim_accuracy": 0.95, "test/kl": 1 - agreement,
        "test/relative_accuracy": agreement, "test/l1": 1.5 - agreement,
    }  # fmt: skip
    result["intervals"] = {"test/agreement": [max(agreement - 0.02, 0), min(agreement + 0.02, 1)]}
    result["cost"] = {"cost/queries": queries, "cost/usd": queries * 0.0015, "cost/seconds": 3.0 + queries / 50}
    write_json(file, {**result, "env": {**ENV, **(env or {})}})


def failed(sweep: Path, name: str, columns: dict[str, Any]) -> None:
    """A job that raised."""
    error = f"AttackError: it failed after 37 queries\n  {LAST_LINE}\n"
    record = {"job_key": name, "axis": columns, "error": error, "traceback": f"Traceback of {NASTY}", "stage": "thief"}
    folder = begun(sweep, name)
    write_json(folder / "failure.json", record)
    (folder / "fmsteal.log").write_text("it failed\n")


def troubled(sweep: Path) -> Path:
    """Two victims x two attacks x three budgets x three seeds, of which some are not there, each in its own way."""
    sweep.mkdir(parents=True)
    plan = {}
    trouble = {3: "failed", 8: "killed", 13: "torn", 19: "missing", 27: "failed", 28: "failed", 29: "failed"}
    grid = product(("efficientnet_lite0", "resnet10t"), ("knockoff", NASTY), (100, 500, 2500), range(3))
    for number, (victim, attack, queries, seed) in enumerate(grid):
        columns = {"victim": victim, "attack": attack, "budget": f"{queries}", "queries": queries, "seed": seed}
        name = f"digits-{victim}-{attack.replace('/', '_')}-{queries}-s{seed}-{number:08x}"
        plan[name] = axis(**columns)
        what = trouble.get(number, "done")
        if what == "done":
            share = 0.4 + 0.1 * (victim == "resnet10t") + 0.05 * queries**0.25 + 0.013 * (number * 7 % 5)
            finished(sweep, name, share, {"git": "f" * 40} if number == 0 else None, **columns)
        elif what == "failed":
            failed(sweep, name, plan[name])
        elif what == "killed":
            aged(begun(sweep, name))
        elif what == "torn":
            (begun(sweep, name) / "result.json").write_text('{"metr')
    asked(sweep, plan)
    command = {"command": "fmsteal -m 'sweep_id=<&>' seed=0,1,2", "begun": 1_795_580_384.5}
    write_json(sweep / "sweep.json", {**read_json(sweep / "sweep.json"), **command})
    return sweep
