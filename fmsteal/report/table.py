"""Results as tables in the terminal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fmsteal.sweep.identity import AXES

Result = dict[str, Any]


def show_result(result: Result, folder: Path) -> None:
    """One job: what was stolen, how well, and what it cost."""
    metrics, intervals, cost, axis = (result[k] for k in ("metrics", "intervals", "cost", "axis"))
    title = "{thief} steals {victim} on {data} with {query} ({attack}, {defense})".format(**axis)
    table = Table(show_header=False)
    table.add_row("victim accuracy", _with_interval(metrics, intervals, "test/victim_accuracy"))
    table.add_row("thief accuracy", _with_interval(metrics, intervals, "test/accuracy"))
    table.add_row("[bold]agreement[/bold]", f"[bold]{_with_interval(metrics, intervals, 'test/agreement')}[/bold]")
    table.add_row("queries", f"{cost['cost/queries']:,} of {result['budget']:,}")
    table.add_row("cost", f"{cost['cost/usd']:.2f} USD, {cost['cost/seconds']:.0f} s")
    console = _console()
    console.print(title, table, sep="\n")
    console.print(f"result  {folder / 'result.json'}\nrun     {result['tracker']}", soft_wrap=True, highlight=False)


def show_sweep(results: Sequence[Result], failures: Sequence[Result], folder: Path) -> None:
    """A sweep: mean agreement of each cell over its seeds, with Student's interval; then what failed."""
    if not results and not failures:
        return
    console = _console()
    if results:
        names = varying([r["axis"] for r in results])
        table = Table(title=f"{folder.name}: {len(results)} jobs", title_justify="left")
        for name in names:
            table.add_column(name)
        for heading in ("victim accuracy", "thief accuracy", "agreement", "95 % interval", "seeds"):
            table.add_column(heading, justify="right")
        for cell, jobs in cells(results, names):
            shares = [r["metrics"]["test/agreement"] for r in jobs]
            table.add_row(
                *map(str, cell),
                _mean(jobs, "test/victim_accuracy"),
                _mean(jobs, "test/accuracy"),
                f"{statistics.fmean(shares):.3f}",
                interval_text(shares),
                str(len(jobs)),
            )
        console.print(table)
    if failures:
        table = Table(title=f"{len(failures)} of {len(results) + len(failures)} jobs failed", title_justify="left")
        table.add_column("job")
        table.add_column("error")
        for failure in failures:
            table.add_row(failure["job_key"], failure["error"].splitlines()[0])
        console.print(table)
    console.print(f"results {folder}/*/result.json", soft_wrap=True, highlight=False)


def varying(axes: Sequence[dict[str, Any]]) -> list[str]:
    """The axes on which runs differ, the seed aside; one that another axis decides says nothing new and is left out."""
    decided = {"victim_adaptation": "victim", "thief_adaptation": "thief", "queries": "budget"}
    known = [*AXES, *sorted(set(axes[0]) - set(AXES) - {"seed"})]
    differ = [n for n in known if len({str(a.get(n)) for a in axes}) > 1]

    def decides(one: str, other: str) -> bool:
        return len({str(a.get(one)) for a in axes}) == len({(str(a.get(one)), str(a.get(other))) for a in axes})

    return [n for n in differ if n not in decided or not decides(decided[n], n)]


def cells(results: Sequence[Result], names: Sequence[str]) -> list[tuple[tuple[Any, ...], list[Result]]]:
    """Results grouped by their values on ``names``, cells in the order of queries within the other axes."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    order = [n for n in names if n != "budget"]
    for result in sorted(results, key=lambda r: ([str(r["axis"][n]) for n in order], r["budget"], r["axis"]["seed"])):
        groups.setdefault(tuple(result["axis"][n] for n in names), []).append(result)
    return list(groups.items())


def student_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean; None for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = t.ppf((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - float(half), mean + float(half)


def interval_text(values: Sequence[float]) -> str:
    """The interval as text; for a single seed there is none."""
    interval = student_interval(values)
    return "one seed" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _mean(jobs: Sequence[Result], metric: str) -> str:
    return f"{statistics.fmean(r['metrics'][metric] for r in jobs):.3f}"


def _with_interval(metrics: dict[str, float], intervals: dict[str, Sequence[float]], name: str) -> str:
    low, high = intervals[name]
    return f"{metrics[name]:.3f}  (95 % interval {low:.3f} to {high:.3f})"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)
