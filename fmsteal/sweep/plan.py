"""What a sweep would do: ``dry_run=true``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fmsteal.report.show.table import console
from fmsteal.report.show.whole import print_whole

if TYPE_CHECKING:
    from fmsteal.sweep.run import Plan


def show_plan(plan: Plan, folder: Path) -> None:
    """Every job by stage and what becomes of it; then how many are run, what they ask, and what that costs.

    Queries and cost are what the budgets allow: an attack may ask less, and answers of an interrupted job are paid.
    """
    out = console()
    print_whole(_jobs(plan, folder.name), out)
    out.print(_totals(plan))
    if plan.grid.merged:
        out.print(f"{plan.grid.merged}.")


def _jobs(plan: Plan, name: str) -> Table:
    """A row for each victim and each thief."""
    running = {cell.key: "steal" for cell in plan.thefts} | {c.key: "stolen already: measure" for c in plan.measured}
    jobs = Table(title=f"{name}: the plan. Nothing is run.", title_justify="left")
    for heading in ("stage", "job", "what is done"):
        jobs.add_column(heading, no_wrap=heading == "job")
    for victim in dict.fromkeys(cell.victim for cell in plan.grid.cells):
        jobs.add_row("victim", victim, _what_of_victim(plan, victim))
    for cell in plan.grid.cells:
        state = "finished already" if cell.finished else running.get(cell.key, "not in this stage")
        jobs.add_row("thief", cell.key, state)
    return jobs


def _what_of_victim(plan: Plan, victim: str) -> str:
    if all(cell.finished for cell in plan.grid.cells if cell.victim == victim):
        return "not needed: its thieves are finished"
    if victim in plan.ready:
        return "in the store"
    return "prepare" if victim in {cell.victim for cell in plan.victims} else "left to its thieves"


def _totals(plan: Plan) -> Table:
    """How many jobs there are of each stage, and what they cost."""
    totals = Table()
    for name in ("stage", "jobs", "there already", "to run", "queries", "USD"):
        totals.add_column(name, justify="left" if name == "stage" else "right")
    cells, victims = plan.grid.cells, {cell.victim for cell in plan.grid.cells}
    finished = sum(cell.finished for cell in cells)
    queries, usd = sum(c.queries for c in plan.thefts), sum(c.usd for c in plan.thefts)
    totals.add_row("victim", str(len(victims)), str(len(victims & plan.ready)), str(len(plan.victims)), "-", "-")
    totals.add_row("thief", str(len(cells)), str(finished), str(len(plan.thieves)), f"{queries:,}", f"{usd:,.2f}")
    return totals
