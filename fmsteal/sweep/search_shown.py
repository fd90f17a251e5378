"""A search as tables in the terminal: what it would do, and what it has found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from fmsteal.report.show.table import console
from fmsteal.sweep.grid import Grid
from fmsteal.sweep.space import Parameter, Value
from fmsteal.sweep.trials import Trials

if TYPE_CHECKING:
    from fmsteal.sweep.search import Search

MOST = 10  # trials that are shown


def show_plan(search: Search, grid: Grid) -> None:
    """Print what is searched, how many trials are left, and what they cost at most: ``dry_run=true``."""
    out = console()
    options = Table(title=f"{search.place.path.name}: the plan. Nothing is run.", title_justify="left")
    options.add_column("option", no_wrap=True)
    options.add_column("values")
    for parameter in search.space.parameters:
        options.add_row(escape(parameter.key), escape(str(parameter)))
    out.print(options)
    trials = search.open() if search.place.search.exists() or search.how.storage else None
    done = len(trials.done) if trials is not None else 0
    left, seeds = max(0, search.how.n_trials - done), max(1, len(search.space.seeds))
    queries, usd = (max(getattr(job, name) for job in grid.jobs) * left * seeds for name in ("queries", "usd"))
    totals = Table()
    for name in ("trials", "done", "to try", "jobs", "queries", "USD"):
        totals.add_column(name, justify="right")
    numbers = (str(search.how.n_trials), str(done), str(left), str(left * seeds), f"{queries:,}", f"{usd:,.2f}")
    totals.add_row(*numbers)
    out.print(totals)
    out.print(f"Queries and USD are upper limits; metric={search.metric}", highlight=False)


def show_trials(trials: Trials, metric: str, command: str) -> None:
    """Print the best trials, and the command that runs the best one's job."""
    out, done = console(), trials.done
    table = Table(title=f"The best of {len(done)} trials", title_justify="left")
    for name in ("trial", metric, *(parameter.key for parameter in trials.space.parameters)):
        table.add_column(escape(name), justify="right")
    for trial in done[:MOST]:
        values = [_spell(parameter, trial.params.get(parameter.key)) for parameter in trials.space.parameters]
        table.add_row(str(trial.number), f"{trial.value:.4f}", *(escape(value) for value in values))
    out.print(table)
    out.print(f"The best again: {command}", highlight=False, markup=False, soft_wrap=True)


def _spell(parameter: Parameter, value: Value | None) -> str:
    return "" if value is None else parameter.word(value).partition("=")[2]
