"""Shows what a sweep would do: ``dry_run=true``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fmsteal.report.show.table import console
from fmsteal.report.show.whole import print_whole

if TYPE_CHECKING:
    from fmsteal.sweep.run import SweepPlan


def show_plan(plan: SweepPlan, folder: Path) -> None:
    """Print each job by stage with what will be done, then the numbers of jobs and queries, and the cost.

    Queries and cost are upper limits from the budgets: an attack may ask less, and an interrupted job has paid in part.
    """
    out = console()
    print_whole(_jobs(plan, folder.name), out)
    out.print(_totals(plan))
    if plan.grid.merged:
        out.print(f"{plan.grid.merged}.")


def _jobs(plan: SweepPlan, name: str) -> Table:
    """A row for each victim and each thief."""
    running = {job.key: "steal" for job in plan.thefts} | {c.key: "stolen already: measure" for c in plan.measured}
    jobs = Table(title=f"{name}: the plan. Nothing is run.", title_justify="left")
    for heading in ("stage", "job", "what is done"):
        jobs.add_column(heading, no_wrap=heading == "job")
    for victim in dict.fromkeys(job.victim for job in plan.grid.jobs):
        jobs.add_row("victim", victim, _what_of_victim(plan, victim))
    for job in plan.grid.jobs:
        state = "finished already" if job.finished else running.get(job.key, "not in this stage")
        jobs.add_row("thief", job.key, state)
    return jobs


def _what_of_victim(plan: SweepPlan, victim: str) -> str:
    if all(job.finished for job in plan.grid.jobs if job.victim == victim):
        return "not needed: its thieves are finished"
    if victim in plan.ready:
        return "in the store"
    return "prepare" if victim in {job.victim for job in plan.victims} else "left to its thieves"


def _totals(plan: SweepPlan) -> Table:
    """The number of jobs in each stage, and their cost."""
    totals = Table()
    for name in ("stage", "jobs", "there already", "to run", "queries", "USD"):
        totals.add_column(name, justify="left" if name == "stage" else "right")
    jobs, victims = plan.grid.jobs, {job.victim for job in plan.grid.jobs}
    finished = sum(job.finished for job in jobs)
    queries, usd = sum(c.queries for c in plan.thefts), sum(c.usd for c in plan.thefts)
    totals.add_row("victim", str(len(victims)), str(len(victims & plan.ready)), str(len(plan.victims)), "-", "-")
    totals.add_row("thief", str(len(jobs)), str(finished), str(len(plan.thieves)), f"{queries:,}", f"{usd:,.2f}")
    return totals
