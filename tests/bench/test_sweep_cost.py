"""What a sweep saves: 24 jobs that share a victim, in CPU time, against 24 runs with nothing to share."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.bench.table import Row, note
from tests.support.commands import command, environment

DEFENSES, BUDGETS = ("none", "hard_label", "top_k"), ("100", "500", "1k", "2k5")
THIEVES = {
    "frozen backbones": ("efficientnet_lite0", "efficientnet_lite0_96"),
    "one from scratch": ("efficientnet_lite0", "resnet10t"),
}


def cpu_seconds(root: Path, *words: str) -> float:
    """User and system time of the command and all its children, one thread each."""
    root.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = {**environment(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(command(*words), cwd=root, env=variables, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("thieves", THIEVES.values(), ids=list(THIEVES))
def test_a_sweep_against_single_runs(thieves: tuple[str, ...], tmp_path: Path, benchmark) -> None:  # type: ignore[no-untyped-def]
    """``SWEEP_COST_ONLY=2k5`` leaves out budgets; the benchmark's ``extra_info`` has each single run."""
    budgets = os.environ.get("SWEEP_COST_ONLY", ",".join(BUDGETS)).split(",")
    axes = {"thief": thieves, "defense": DEFENSES, "budget": tuple(budgets)}
    sweep = cpu_seconds(tmp_path / "sweep", "-m", *(f"{k}={','.join(v)}" for k, v in axes.items()), "sweep_id=cost")
    single = {}
    for cell in itertools.product(*axes.values()):
        words = [f"{axis}={choice}" for axis, choice in zip(axes, cell, strict=True)]
        single["-".join(cell)] = cpu_seconds(tmp_path / "single" / "-".join(cell), *words)
    jobs = [json.loads(p.read_text()) for p in tmp_path.glob("sweep/outputs/sweeps/cost/*/result.json")]
    assert len(jobs) == len(single)
    ratio = sweep / sum(single.values())
    benchmark.extra_info |= {"sweep": sweep, "single runs": sum(single.values()), "ratio": ratio, "each": single}
    benchmark.pedantic(lambda: None)
    what = f"a sweep of {len(single)} jobs on digits: {' and '.join(thieves)}"
    note(Row(what, "as single runs, empty caches", sum(single.values()), sweep, "s of CPU"))
