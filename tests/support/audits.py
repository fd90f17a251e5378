"""Audits as they are on the disk, without having run them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fmsteal.audit.evidence import TriedTheft
from fmsteal.audit.plan import AuditPlan, Gap, PlannedTheft
from fmsteal.audit.request import make_request
from fmsteal.audit.target import Target
from fmsteal.base.store import read_json, write_json
from fmsteal.records.results import read_job
from fmsteal.report.read.study import StudyJob
from fmsteal.sweep.grid import SweepJob
from tests.support.job_folders import axis
from tests.support.sweeps import NASTY, failed, finished

LADDER = (100, 1000)
REACHED = {  # agreement by attacker, defense and budget; None: the theft failed
    ("own_data", "none", 0): 0.6, ("solve", "none", 100): 0.82, ("solve", "none", 1000): 0.97,
    ("solve", "prada", 100): 0.82, ("solve", "prada", 1000): 0.97,
    ("solve", NASTY, 100): 0.4, ("solve", NASTY, 1000): None,
}  # fmt: skip


def audited(sweep: Path, seeds: int = 1) -> tuple[AuditPlan, list[TriedTheft]]:
    """The plan of an audit, and what became of its thefts."""
    thefts = list(_make_thefts(sweep, seeds))
    request = make_request(["i_am_authorised=true"], ladder="100,1000", seeds=seeds, queries=5000)
    target = Target({"victim": NASTY, "data": "digits"}, "probabilities", False, 1.5, False, sweep.parent)
    plan = AuditPlan(request, target, [planned for planned, _ in thefts], LADDER, 0, (), [Gap("jbda", f"no {NASTY}")])
    return plan, [tried for _, tried in thefts]


def _make_thefts(sweep: Path, seeds: int) -> Iterable[tuple[PlannedTheft, TriedTheft]]:
    for number, ((attack, defense, budget), reached) in enumerate(REACHED.items()):
        for seed in range(seeds):
            name = f"theft-{number}-{seed}"
            columns = axis(attack=attack, defense=defense, queries=budget, budget=f"{budget}", seed=seed)
            if reached is None:
                failed(sweep, name, columns)
            else:
                finished(sweep, name, reached - 0.01 * seed, **columns)
                _add(sweep / name, defense, budget)
            folder = sweep / name
            job = SweepJob((), name, columns, f"{number}", folder, "v", sweep, budget, 0.0, False, True)
            on_disk = read_job(folder)
            tried = TriedTheft(attack, defense, budget, StudyJob(on_disk, sweep.name, columns, f"{number}"))
            yield PlannedTheft(job, attack, defense), tried


def _add(folder: Path, defense: str, budget: int) -> None:
    """What a job behind a defense has besides."""
    result: dict[str, Any] = read_json(folder / "result.json")
    result["cost"] |= {"cost/usd_billed": budget * 0.0015}
    if defense != "none":
        result["metrics"] |= {"honest/accuracy": 0.9, "honest/victim_accuracy": 0.95, "honest/l1": 0.2}
    if defense == "prada":
        result["metrics"] |= {"honest/flags/prada": 0.01, "honest/false_alarms": 0.01}
        result["cost"] |= {"cost/flags/prada": budget * 0.5}
    write_json(folder / "result.json", result)
