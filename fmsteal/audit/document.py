"""An audit as plain values: what its JSON file holds, and what its page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from fmsteal import __version__
from fmsteal.audit.evidence import DOWNSTREAM, IMAGES, LEVELS, Curve, Evidence, TriedTheft, read_evidence
from fmsteal.audit.plan import AuditPlan, Gap
from fmsteal.audit.shelf import UNDEFENDED
from fmsteal.audit.verdict import judge
from fmsteal.config.answers import choices
from fmsteal.records import results
from fmsteal.records.results import JobOnDisk, read_job
from fmsteal.report.read import majority
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import StudyJob
from fmsteal.report.show.table import find_last_line

SCHEMA = 1
Document = dict[str, Any]
ALWAYS = (  # that no audit of this kind tries
    Gap("attackers with other images, networks or more queries", "one query set, one thief and one ladder are tried"),
    Gap("several accounts, insiders, and ways around the API", "each attacker here is one client that only asks"),
)


def read_thefts(plan: AuditPlan) -> list[TriedTheft]:
    """An audit's thefts as they are on the disk."""
    found = []
    for theft in plan.thefts:
        job, there = theft.job, theft.job.folder.is_dir()
        on_disk = read_job(job.folder) if there else JobOnDisk(job.key, job.folder, results.MISSING)
        found.append(
            TriedTheft(
                theft.attack,
                theft.defense,
                theft.queries,
                StudyJob(on_disk, job.folder.parent.name, job.axis, job.cell),
            )
        )
    return found


def make_document(plan: AuditPlan, thefts: Sequence[TriedTheft], command: str) -> Document:
    """All that an audit says.

    Args:
        plan: which thefts it makes.
        thefts: what became of them.
        command: the command that it was asked for by, as one would type it.
    """
    embeds = plan.target.answers == "embeddings"
    first = next((theft.job.on_disk for theft in thefts if theft.job.on_disk.result is not None), None)
    constant = majority.scores(first.folder).get(HEADLINE) if first is not None else None
    evidence = read_evidence(thefts, plan.request.seeds, constant, DOWNSTREAM if embeds else IMAGES)
    request = plan.request
    return {
        "schema": SCHEMA,
        "fmsteal": __version__,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "sweep": str(plan.folder),
        "target": {
            **plan.target.names, "answers": plan.target.answers, "usd_per_1000": plan.target.price,
            "asked over a network": plan.target.paid,
        },
        "limits": {"queries": request.queries, "usd": request.usd},
        "ladder": list(plan.ladder),
        "seeds": request.seeds,
        "planned": {
            "thefts": len(plan.thefts), "queries": plan.queries, "besides thefts": plan.besides, "usd": plan.usd,
        },
        "spent": dict(evidence.spent),
        "finished": evidence.done,
        "agreement is a share of": evidence.unit,
        "constant answer": constant,
        "verdict": asdict(judge(evidence)),
        "levels": list(LEVELS),
        "passing is": "the smallest budget of the ladder whose mean agreement is at least the level; not interpolated",
        "thieves": [_spell_curve(curve) for curve in evidence.curves],
        "defenses": [asdict(guard) for guard in evidence.guards],
        "not tried": [asdict(gap) for gap in _list_gaps(plan, thefts, evidence)],
        "jobs": [_spell_job(theft) for theft in thefts],
    }  # fmt: skip


def _spell_curve(curve: Curve) -> Document:
    """A thief's figures, and where it passes each level."""
    passes: dict[str, Mapping[str, float] | None] = {}
    for level in LEVELS:
        point = curve.first_over(level)
        passes[f"{level:g}"] = None if point is None else {
            "budget": point.budget, "queries": point.queries, "usd": point.usd, "agreement": point.agreement,
        }  # fmt: skip
    best = curve.best
    return {
        "attack": curve.attack, "defense": curve.defense, "asks": curve.asks, "passes": passes,
        "best": None if best is None else asdict(best), "points": [asdict(point) for point in curve.points],
    }  # fmt: skip


def _spell_job(theft: TriedTheft) -> Document:
    job = theft.job
    return {
        "key": job.on_disk.key, "attack": theft.attack, "defense": theft.defense, "budget": theft.budget,
        "seed": job.seed, "state": job.on_disk.state, "agreement": job.figure(HEADLINE),
    }  # fmt: skip


def _list_gaps(plan: AuditPlan, thefts: Sequence[TriedTheft], evidence: Evidence) -> Iterator[Gap]:
    """What was not tried: what failed, what was left out, and what is there besides."""
    for theft in thefts:
        if theft.job.on_disk.state != results.DONE:
            what = f"{theft.attack} against {theft.defense} with {theft.budget:,} queries, seed {theft.job.seed}"
            yield Gap(what, _say_state(theft.job.on_disk))
    yield from plan.gaps
    answers = plan.target.answers
    for group, tried in (("attack", {curve.attack for curve in evidence.curves}), ("defense", {*evidence.defenses})):
        names = {label.partition(" ")[0] for label in tried} | {UNDEFENDED}
        if others := [name for name in choices(group, answers) if name not in names]:
            option = f"--{group}s"
            yield Gap(f"{len(others)} other {group}s", f"{option} names them: {', '.join(others)}")
    yield from ALWAYS


def _say_state(job: JobOnDisk) -> str:
    if job.failure is not None:
        return f"it failed: {find_last_line(str(job.failure.get('error', '')))}"
    return job.fault or {results.MISSING: "it was not begun", results.KILLED: "it was cut off"}.get(
        job.state, job.state
    )
