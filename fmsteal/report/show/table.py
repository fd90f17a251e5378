"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from fmsteal.base.shown import make_printable
from fmsteal.base.store import is_there
from fmsteal.records.folders import JobFolder, SweepFolder
from fmsteal.records.results import Result, Sweep
from fmsteal.report.read import majority
from fmsteal.report.read.about import describe
from fmsteal.report.read.headlines import FURTHER, HEADLINE, HEADLINES
from fmsteal.report.read.relation import find_relations
from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show import majority_row
from fmsteal.report.show.whole import print_whole
from fmsteal.report.show.wording import describe_coverage, format_interval


def show_result(result: Result, folder: Path) -> None:
    """Print one job: what was stolen, how well, and at what cost."""
    metrics, intervals, cost, axis = (result[k] for k in ("metrics", "intervals", "cost", "axis"))
    title = "{thief} steals {victim} on {data} with {query} ({attack}, {defense})".format(**axis)
    table, about = Table(show_header=False), describe([result])
    for name in HEADLINES:
        if name in metrics:
            style = "bold" if name == HEADLINE else None
            table.add_row(escape(about[name].label), _with_interval(metrics, intervals, name), style=style)
    for name in FURTHER:
        if name in metrics:
            table.add_row(escape(about[name].label), f"{metrics[name]:.3f}")
    if HEADLINE in (least := majority.scores(folder)):
        table.add_row("agreement of the majority class", f"{least[HEADLINE]:.3f}")
    table.add_row("queries", f"{cost['cost/queries']:,} of {result['budget']:,}")
    table.add_row("cost", f"{cost['cost/usd']:.2f} USD, {cost['cost/seconds']:.0f} s")
    out = console()
    out.print(title, table, sep="\n")
    if any(name in intervals for name in HEADLINES):
        out.print("95 % intervals are of the test images alone: another seed may be outside of them.", highlight=False)
    out.print(f"result  {JobFolder(folder).result}\nrun     {result['tracker']}", soft_wrap=True, highlight=False)


def show_sweep(sweep: Sweep, folder: Path) -> None:
    """Print a sweep: each cell's mean agreement, interval and what that covers; then the jobs without a result."""
    total = len(sweep.results) + len(sweep.failures) + len(sweep.unfinished) + len(sweep.waiting)
    if not total:
        return
    out = console()
    if sweep.results:
        study = Study.of_results(sweep.results, folder)
        print_whole(_table(study, f"{folder.name}: {len(sweep.results)} of {total} jobs"), out)
        for line in describe_coverage([cell.figure(HEADLINE) for cell in study.cells], study.cells):
            out.print(line, highlight=False, markup=False)
        show_relations(study, out)
    _show_missing(sweep, folder, out)
    out.print(f"results {SweepFolder(folder).job('*').result}", soft_wrap=True, highlight=False)


def _table(study: Study, title: str) -> Table:
    """A row for each cell, and below them the thief that always answers the majority class."""
    table = Table(title=title, title_justify="left")
    shown = [name for name in HEADLINES if name in study.metrics]
    least = _majority_rows(study, shown)
    unnamed = [""] if least and not study.columns else []  # a column for the name of the majority class's row
    for name in (*study.columns, *unnamed):
        table.add_column(name, no_wrap=True)
    for heading in (*(escape(study.label(name)) for name in shown), "95 % interval", "seeds"):
        table.add_column(heading, justify="right")
    for cell in study.cells:
        agreement = cell.figure(HEADLINE)
        means = [_mean(cell, name) for name in shown]
        interval = format_interval(agreement, HEADLINE) if agreement else "one seed"
        table.add_row(*cell.values.values(), *unnamed, *means, interval, str(len(cell.jobs)))
    for row in least:
        table.add_row(*row)
    return table


def _show_missing(sweep: Sweep, folder: Path, out: Console) -> None:
    """Print the jobs without a result (job, stage, the error's last line, the log), then the command to continue."""
    missing = len(sweep.failures) + len(sweep.unfinished) + len(sweep.waiting)
    if not missing and not sweep.victims:
        return
    total = len(sweep.results) + missing
    table = Table(title=f"{missing} of {total} jobs without a result", title_justify="left")
    for name in ("job", "stage", "error", "log"):
        table.add_column(name, overflow="fold", no_wrap=name == "job")
    for failure in (*sweep.victims, *sweep.failures):
        stage = failure.get("stage", "thief")
        table.add_row(failure["job_key"], stage, find_last_line(failure["error"]), _shown(failure.get("log")))
    for key in sweep.unfinished:
        log = SweepFolder(folder).job(key).log
        said = "begun and not finished: still under way, or killed"
        table.add_row(key, "thief", said, _shown(log if is_there(log) else None))
    failed = {failure["job_key"] for failure in sweep.victims}
    for key, victim in sweep.waiting.items():
        table.add_row(key, "thief", f"not begun: its victim failed ({victim})" if victim in failed else "not begun", "")
    print_whole(table, out)
    out.print("A job goes on where it was when its command is given again.")
    if sweep.command:
        out.print(f"continue with: {sweep.command}", soft_wrap=True, highlight=False, markup=False)


def find_last_line(error: str) -> str:
    """The last line of an error's message, preceded by the error's type."""
    first, *more = error.strip().splitlines() or [""]
    return f"{first.partition(':')[0]}: {more[-1].strip()}" if more else first


def _shown(path: Path | str | None) -> str:
    """A path, relative if it is below the current folder."""
    if path is None:
        return ""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def show_relations(study: Study, out: Console) -> None:
    """Print what correlates with agreement, if similarity was measured and there are enough cells."""
    found = find_relations(study)
    if not found:
        return
    title = "what correlates with agreement: Spearman's rho over cells, interval by bootstrap over victims"
    table = Table(title=title, title_justify="left")
    for name in ("queries", "figure", "rho", "95 % interval", "cells"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for r in found:
        interval = "-" if r.interval is None else f"{r.interval[0]:+.2f} to {r.interval[1]:+.2f}"
        table.add_row(f"{r.queries:,}", escape(study.label(r.metric)), f"{r.rho:+.2f}", interval, str(r.cells))
    out.print(table)


def _majority_rows(study: Study, shown: Sequence[str]) -> list[list[str]]:
    """A row of the majority class for each victim with predictions, in the format of the cells' rows."""
    by_victim: dict[tuple[str, ...], list[Cell]] = {}
    for cell in study.cells:
        by_victim.setdefault(majority_row.find_row(study.columns, cell.values), []).append(cell)
    rows = []
    for values, cells in by_victim.items():
        found = {name: majority_row.average_figure(cells, name) for name in shown}
        if figure := found.get(HEADLINE):
            means = [f"{each.mean:.3f}" if each else "-" for each in found.values()]
            rows.append([*values, *means, format_interval(figure, HEADLINE), str(figure.n)])
    return rows


def _mean(cell: Cell, metric: str) -> str:
    """The mean over a cell's jobs; a dash if any of them lacks the metric."""
    figure = cell.figure(metric)
    return f"{figure.mean:.3f}" if figure and figure.whole else "-"


def _with_interval(metrics: dict[str, float], intervals: dict[str, Sequence[float]], name: str) -> str:
    if name not in intervals:
        return f"{metrics[name]:.3f}"
    low, high = intervals[name]
    return f"{metrics[name]:.3f}  (95 % interval {low:.3f} to {high:.3f})"


class _Clean(Console):
    """A console that prints no control characters but its own, since its texts come from files."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the rendered segments, each without control characters."""
        for segment in super().render(renderable, options):
            clean = segment.text if segment.control else make_printable(segment.text)
            yield segment if clean == segment.text else Segment(clean, segment.style)


def console() -> Console:
    """The console for tables: as wide as the terminal, or 160 characters in a file."""
    plain = _Clean()
    return plain if plain.is_terminal else _Clean(width=160)
