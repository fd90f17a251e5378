"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fmsteal.report.headlines import FURTHER, HEADLINE, HEADLINES
from fmsteal.report.interval import interval_text
from fmsteal.report.relation import relations
from fmsteal.report.study import Cell, Study
from fmsteal.results import Result, Sweep


def show_result(result: Result, folder: Path) -> None:
    """One job: what was stolen, how well, and what it cost."""
    metrics, intervals, cost, axis = (result[k] for k in ("metrics", "intervals", "cost", "axis"))
    title = "{thief} steals {victim} on {data} with {query} ({attack}, {defense})".format(**axis)
    table = Table(show_header=False)
    for name, heading in HEADLINES.items():
        if name in metrics:
            style = "bold" if name == "test/agreement" else None
            table.add_row(heading, _with_interval(metrics, intervals, name), style=style)
    for name, heading in FURTHER.items():
        if name in metrics:
            table.add_row(heading, f"{metrics[name]:.3f}")
    table.add_row("queries", f"{cost['cost/queries']:,} of {result['budget']:,}")
    table.add_row("cost", f"{cost['cost/usd']:.2f} USD, {cost['cost/seconds']:.0f} s")
    out = console()
    out.print(title, table, sep="\n")
    out.print(f"result  {folder / 'result.json'}\nrun     {result['tracker']}", soft_wrap=True, highlight=False)


def show_sweep(sweep: Sweep, folder: Path) -> None:
    """A sweep: mean agreement of each cell over its seeds, with Student's interval; then what failed."""
    total = len(sweep.results) + len(sweep.failures) + len(sweep.unfinished) + len(sweep.waiting)
    if not total:
        return
    out = console()
    if sweep.results:
        study = Study.of_results(sweep.results)
        table = Table(title=f"{folder.name}: {len(sweep.results)} of {total} jobs", title_justify="left")
        for name in study.columns:
            table.add_column(name)
        shown = [name for name in HEADLINES if name in study.metrics]
        for heading in (*(HEADLINES[name] for name in shown), "95 % interval", "seeds"):
            table.add_column(heading, justify="right")
        for cell in study.cells:
            agreement = list(cell.by_seed(HEADLINE).values())
            means = [_mean(cell, name) for name in shown]
            table.add_row(*cell.values.values(), *means, interval_text(agreement), str(len(cell.jobs)))
        out.print(table)
        show_relations(study, out)
    _show_missing(sweep, folder, out)
    out.print(f"results {folder}/*/result.json", soft_wrap=True, highlight=False)


def _show_missing(sweep: Sweep, folder: Path, out: Console) -> None:
    """What has no result: job, stage, the error's last line, the log; then the one command to continue."""
    missing = len(sweep.failures) + len(sweep.unfinished) + len(sweep.waiting)
    if not missing and not sweep.victims:
        return
    total = len(sweep.results) + missing
    table = Table(title=f"{missing} of {total} jobs without a result", title_justify="left")
    for name in ("job", "stage", "error", "log"):
        table.add_column(name, overflow="fold")
    for failure in (*sweep.victims, *sweep.failures):
        stage = failure.get("stage", "thief")
        table.add_row(failure["job_key"], stage, last_line(failure["error"]), _shown(failure.get("log")))
    for key in sweep.unfinished:
        logs = sorted((folder / key).glob("*.log"))
        said = "begun and not finished: still under way, or killed"
        table.add_row(key, "thief", said, _shown(logs[0] if logs else None))
    failed = {failure["job_key"] for failure in sweep.victims}
    for key, victim in sweep.waiting.items():
        table.add_row(key, "thief", f"not begun: its victim failed ({victim})" if victim in failed else "not begun", "")
    out.print(table)
    out.print("A job goes on where it was when its command is given again.")
    if sweep.command:
        out.print(f"continue with: {sweep.command}", soft_wrap=True, highlight=False, markup=False)


def last_line(error: str) -> str:
    """The last line of an error's message, after the error's kind."""
    first, *more = error.strip().splitlines() or [""]
    return f"{first.partition(':')[0]}: {more[-1].strip()}" if more else first


def _shown(path: Path | str | None) -> str:
    """A path as it is seen from here."""
    if path is None:
        return ""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def show_relations(study: Study, out: Console) -> None:
    """What goes along with agreement, where similarity was measured and there are cells enough."""
    found = relations(study)
    if not found:
        return
    table = Table(title="what goes along with agreement: Spearman's rho over cells", title_justify="left")
    for name in ("queries", "figure", "rho", "95 % interval", "cells"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for r in found:
        interval = "-" if r.interval is None else f"{r.interval[0]:+.2f} to {r.interval[1]:+.2f}"
        table.add_row(f"{r.queries:,}", r.metric.removeprefix("test/"), f"{r.rho:+.2f}", interval, str(r.cells))
    out.print(table)


def _mean(cell: Cell, metric: str) -> str:
    """The mean over a cell's jobs; a dash where one of them did not measure it."""
    figure = cell.figure(metric)
    return f"{figure.mean:.3f}" if figure and figure.whole else "-"


def _with_interval(metrics: dict[str, float], intervals: dict[str, Sequence[float]], name: str) -> str:
    if name not in intervals:
        return f"{metrics[name]:.3f}"
    low, high = intervals[name]
    return f"{metrics[name]:.3f}  (95 % interval {low:.3f} to {high:.3f})"


def console() -> Console:
    """Where tables go: as wide as the terminal, or 160 characters in a file."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=160)
