"""Shows what a sweep would do and take: ``dry_run=true``, and with every job ``dry_run=full``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from fmsteal.report.show.table import console
from fmsteal.report.show.whole import print_whole
from fmsteal.sweep.estimate import COUNTED, MEASURED, SCALED, SOURCES, Estimate, Expected
from fmsteal.sweep.grid import SweepJob
from fmsteal.sweep.measured import GPU
from fmsteal.tracking.naming import find_varying, list_values

if TYPE_CHECKING:
    from fmsteal.sweep.stages import SweepPlan

NUMBERS = ("seeds", "queries each", "jobs", "there", "to steal", "to measure", "queries", "USD")
MOST_ROWS = 30  # of the table by axes; above it, the axes with the most choices are folded
DERIVED = {"victim_adaptation", "thief_adaptation", "attack_selection", "attack_strategy", "attack_loss"}  # often
FOLDED = {"seed", "budget", "queries", "evaluation"}  # axes that are always folded
LEFT_OUT = (
    "It leaves out what an attack computes besides one training of the thief on all answers (rounds, generators, "
    "adversarial examples), defenses, measurements but those on the test images, decoding and starting."
)


def show_plan(plan: SweepPlan, folder: Path, expected: Estimate, full: bool = False) -> None:
    """Print the plan by axes, and the numbers of jobs and queries, the cost, time and disk of each stage.

    Queries and cost are upper limits from the budgets: an attack may ask less, and an interrupted job has paid in part.
    """
    out = console()
    if full:
        print_whole(_jobs(plan, folder.name, expected), out)
    else:
        _show_groups(plan, folder.name, expected, out)
    out.print(_totals(plan, expected))
    for line in (*_say_sources(expected), *([f"{plan.grid.merged}."] if plan.grid.merged else [])):
        out.print(line, highlight=False, markup=False)


def _show_groups(plan: SweepPlan, name: str, expected: Estimate, out: Console) -> None:
    """A row for each combination of the axes that vary, seeds and budgets folded."""
    axes, values = _find_axes(plan.grid.jobs)
    shown, folded = list(axes), list[str]()
    while len(groups := _group(plan.grid.jobs, values, shown)) > MOST_ROWS and len(shown) > 1:
        widest = max(shown, key=lambda axis: len({values[job.key].get(axis) for job in plan.grid.jobs}))
        shown.remove(widest)
        folded.append(f"{widest} ({len({values[job.key].get(widest) for job in plan.grid.jobs})})")
    table = Table(title=f"{escape(name)}: the plan. Nothing is run.", title_justify="left")
    for axis in shown:
        table.add_column(escape(axis), no_wrap=True)
    for heading in (*NUMBERS, _hours(expected)):
        table.add_column(heading, justify="right", no_wrap=heading == "queries each")
    table.add_column("time is", no_wrap=True)
    for key, jobs in groups.items():
        table.add_row(*(escape(part) for part in key), *_count(jobs, plan, expected))
    print_whole(table, out)
    if folded:
        out.print(f"Folded: {', '.join(folded)}. dry_run=full shows every job.", highlight=False, markup=False)


def _find_axes(jobs: Sequence[SweepJob]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The names of what varies, but for seeds and budgets, and each job's values of all."""
    values = {job.key: {**list_values(job.overrides), **{k: str(v) for k, v in job.axis.items()}} for job in jobs}
    varying = find_varying([{"axis": job.axis, "overrides": job.overrides} for job in jobs])
    there = dict.fromkeys((*jobs[0].axis, *sorted(varying))) if jobs else {}
    names = [name for name in there if name in varying and not _is_folded(name)]
    for name in [name for name in names if name in DERIVED]:
        others = [other for other in names if other != name]
        if len(_group(jobs, values, others)) == len(_group(jobs, values, names)):
            names = others
    return names, values


def _is_folded(name: str) -> bool:
    return name in FOLDED or name.endswith(".seed") or name.startswith(("evaluation", "budget."))


def _group(
    jobs: Iterable[SweepJob], values: Mapping[str, Mapping[str, str]], axes: Sequence[str]
) -> dict[tuple[str, ...], list[SweepJob]]:
    found: dict[tuple[str, ...], list[SweepJob]] = {}
    for job in jobs:
        found.setdefault(tuple(values[job.key].get(axis, "-") for axis in axes), []).append(job)
    return found


def _count(jobs: Sequence[SweepJob], plan: SweepPlan, expected: Estimate) -> list[str]:
    """The columns of a group of jobs, after its axes."""
    own = {job.key for job in jobs}
    thefts = [job for job in plan.thefts if job.key in own]
    measured = sum(job.key in own for job in plan.measured)
    seeds, budgets = {job.axis["seed"] for job in jobs}, sorted({job.queries for job in jobs})
    asked = f"{budgets[0]:,}" if len(budgets) == 1 else f"{budgets[0]:,}-{budgets[-1]:,}"
    finished = sum(job.finished for job in jobs)
    numbers = [len(seeds), asked, len(jobs), finished, len(thefts), measured, f"{sum(j.queries for j in thefts):,}"]
    return [
        *map(str, numbers),
        f"{sum(j.usd for j in thefts):,.2f}",
        *_say_time(expected.jobs[k] for k in own & expected.jobs.keys()),
    ]


def _jobs(plan: SweepPlan, name: str, expected: Estimate) -> Table:
    """A row for each victim and each thief."""
    running = {job.key: "steal" for job in plan.thefts} | {c.key: "stolen already: measure" for c in plan.measured}
    jobs = Table(title=f"{escape(name)}: the plan. Nothing is run.", title_justify="left")
    for heading in ("stage", "job", "what is done", _hours(expected), "time is"):
        jobs.add_column(heading, no_wrap=heading == "job", justify="right" if heading.endswith("hours") else "left")
    for victim in dict.fromkeys(job.victim for job in plan.grid.jobs):
        time = [expected.victims[victim]] if victim in expected.victims else []
        jobs.add_row("victim", victim, _what_of_victim(plan, victim), *_say_time(time))
    for job in plan.grid.jobs:
        state = "finished already" if job.finished else running.get(job.key, "not in this stage")
        jobs.add_row("thief", job.key, state, *_say_time([expected.jobs[job.key]] if job.key in expected.jobs else []))
    return jobs


def _what_of_victim(plan: SweepPlan, victim: str) -> str:
    if all(job.finished for job in plan.grid.jobs if job.victim == victim):
        return "not needed: its thieves are finished"
    if victim in plan.ready:
        return "in the store"
    return "prepare" if victim in {job.victim for job in plan.victims} else "left to its thieves"


def _totals(plan: SweepPlan, expected: Estimate) -> Table:
    """The number of jobs in each stage, and what they take."""
    totals = Table()
    for name in (
        "stage",
        "jobs",
        "there already",
        "to run",
        "queries",
        "USD",
        _hours(expected),
        "time is",
        "new images",
        "new features",
    ):
        totals.add_column(name, justify="left" if name in ("stage", "time is") else "right")
    jobs, victims = plan.grid.jobs, {job.victim for job in plan.grid.jobs}
    finished = sum(job.finished for job in jobs)
    queries, usd = sum(c.queries for c in plan.thefts), sum(c.usd for c in plan.thefts)
    time = _say_time(expected.victims.values())
    totals.add_row(
        "victim", str(len(victims)), str(len(victims & plan.ready)), str(len(plan.victims)), "-", "-", *time, "-", "-"
    )
    disk = decimal(expected.images), decimal(expected.features)
    time = _say_time(expected.jobs.values())
    numbers = str(len(jobs)), str(finished), str(len(plan.thieves)), f"{queries:,}", f"{usd:,.2f}"
    totals.add_row("thief", *numbers, *time, *disk)
    return totals


def _say_time(each: Iterable[Expected]) -> tuple[str, str]:
    """The hours of several jobs, and where the figure is from."""
    some = list(each)
    if not some:
        return "-", "-"
    hours, sources = sum(one.seconds for one in some) / 3600, {one.source for one in some}
    return format_hours(hours), " + ".join(name for name in SOURCES if name in sources)


def format_hours(hours: float) -> str:
    """Hours with two or three digits: ``0.0042``, ``0.36``, ``12.5``, ``1,240``."""
    if not hours:
        return "0"
    digits = 4 if hours < 0.01 else 3 if hours < 0.1 else 2 if hours < 10 else 1 if hours < 100 else 0
    return f"{hours:,.{digits}f}"


def _hours(expected: Estimate) -> str:
    devices = {each.device for each in (*expected.victims.values(), *expected.jobs.values())}
    return f"{' + '.join(sorted(devices)) or GPU} hours"


def _say_sources(expected: Estimate) -> list[str]:
    """What the times are from, and what they leave out."""
    counted, said = expected.count_sources(), []
    if counted[MEASURED] or counted[SCALED]:
        said.append(
            f"measured: the mean of finished jobs of this kind below this output ({expected.finished} were read). "
            "scaled: from such with other budgets, with other options of attack or defense, or with other measurements."
        )
    if counted[COUNTED]:
        devices = sorted(
            {e.device for e in (*expected.victims.values(), *expected.jobs.values()) if e.source == COUNTED}
        )
        rates = " and ".join(f"{expected.rate[device]:g} for a {device}" for device in devices)
        said.append(
            f"arithmetic: operations counted in the networks, at {rates} x 10^12 of them a second "
            f"(hydra.sweeper.teraflops=...). {LEFT_OUT}"
        )
    if expected.unknown:
        said.append(f"Not counted: {', '.join(expected.unknown)}.")
    if said:
        said.append(
            "Hours are those of one device with one job after another, without waiting in a queue and starting."
        )
        said.append(
            "Disk is arithmetic: without weights, answers and ledgers, and without what finished jobs have made."
        )
    return said
