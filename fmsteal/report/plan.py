"""What a sweep would do: ``dry_run=true``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fmsteal.report.table import console

if TYPE_CHECKING:
    from fmsteal.sweep.run import Plan


def show_plan(plan: Plan, folder: Path) -> None:
    """Every job by stage and what becomes of it; then how many are run, what they ask, and what that costs.

    Queries and cost are what the budgets allow: an attack may ask less, and answers of an interrupted job are paid.
    """
    out = console()
    preparing = {cell.victim for cell in plan.victims}
    running = {cell.key for cell in plan.thieves}
    jobs = Table(title=f"{folder.name}: the plan. Nothing is run.", title_justify="left")
    for name in ("stage", "job", "what is done"):
        jobs.add_column(name)
    for victim in dict.fromkeys(cell.victim for cell in plan.grid.cells):
        state = "in the store" if victim in plan.ready else "prepare" if victim in preparing else "left to its thieves"
        if not any(c.victim == victim and not (c.finished or c.shared) for c in plan.grid.cells):
            state = "not needed: its thieves are finished"
        jobs.add_row("victim", victim, state)
    for cell in plan.grid.cells:
        state = "finished already" if cell.finished else "run" if cell.key in running else "not in this stage"
        state = f"taken over from {cell.shared}" if cell.shared else state
        jobs.add_row("thief", cell.key, state)
    out.print(jobs)
    totals = Table()
    for name in ("stage", "jobs", "there already", "to run", "queries", "USD"):
        totals.add_column(name, justify="left" if name == "stage" else "right")
    victims = {cell.victim for cell in plan.grid.cells}
    finished = sum(bool(cell.finished or cell.shared) for cell in plan.grid.cells)
    queries, usd = sum(c.queries for c in plan.thieves), sum(c.usd for c in plan.thieves)
    totals.add_row("victim", str(len(victims)), str(len(victims & plan.ready)), str(len(plan.victims)), "-", "-")
    totals.add_row(
        "thief", str(len(plan.grid.cells)), str(finished), str(len(plan.thieves)), f"{queries:,}", f"{usd:,.2f}"
    )
    out.print(totals)
