"""Agreement against its cost: seconds, dollars or queries, whichever vary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from fmsteal.report.read.study import Figure, Study
from fmsteal.report.show.layout import Layout, Panel
from fmsteal.report.show.plots.panels import (
    Plot,
    add_legend,
    count_across,
    describe_state,
    hollow_mark,
    list_series,
    make_frames,
    set_title,
    show_whole_scale,
)
from fmsteal.report.show.plots.theme import Theme

LOG = 5  # ratio of the highest cost to the lowest above which the axis is logarithmic
COSTS = ("cost/queries", "cost/usd", "cost/seconds")
NOTES = {"cost/seconds": "Wall time is that of the machines the jobs ran on, a victim made on the way included."}

Points = dict[str, list[tuple[float, Figure]]]  # for each line, the cost and the figure of its cells


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """The metric against each informative cost: a mark for each cell, with those of one line joined."""
    costs = _telling(study, layout) if not layout.metric.startswith("cost/") else []
    pages, note = layout.figures(study)
    for page in pages:
        for cost in costs:
            points = [(panel, _points(panel, cost, layout.metric)) for panel in page.panels]
            points = [(panel, lines) for panel, lines in points if lines]
            if points:
                yield _plot(study, layout, theme, cost, points).about(page, note)


def _plot(study: Study, layout: Layout, theme: Theme, cost: str, points: Sequence[tuple[Panel, Points]]) -> Plot:
    """The figure of one cost, with the panels that have points."""
    panels, order = [panel for panel, _ in points], list_series(study, layout)
    figure, grid = make_frames(len(panels), wide=count_across(panels), sharex=True, sharey=True)
    handles: dict[str, Artist] = {}
    for axes, (panel, lines) in zip(grid, points, strict=True):
        handles |= _marks(axes, lines, order, theme)
        set_title(axes, panel.title)
    _scale(grid[0], [x for _, lines in points for line in lines.values() for x, _ in line])
    show_whole_scale(grid, study, layout.metric)
    for axes in grid:
        axes.label_outer()
    figure.supxlabel(study.label(cost), fontsize=8)
    figure.supylabel(study.label(layout.metric), fontsize=8)
    shown = [name for name in order if name in handles]
    add_legend(figure, [handles[name] for name in shown], shown, layout.lines)
    said = "Means over seeds" + ("; cells that differ in the budget alone are joined." if layout.x else ".")
    caption = " ".join(filter(None, (said, NOTES.get(cost), describe_state(panels, layout.metric))))
    return Plot("cost", f"{study.label(layout.metric)} against {study.label(cost)}", caption, figure)


def _marks(axes: Axes, lines: Points, order: list[str], theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for line, points in lines.items():
        style = theme.line(order.index(line))
        at, means = [x for x, _ in points], [y.mean for _, y in points]
        axes.plot(at, means, **{**style, "linewidth": 0.8, "alpha": 0.5, "marker": "none"})
        (handles[line],) = axes.plot(at, means, **{**style, "linestyle": "none"}, markeredgewidth=0)
        for x, y in points:
            if not y.whole:
                axes.plot(x, y.mean, **hollow_mark(style, theme))
    axes.grid(True)
    return handles


def _scale(axes: Axes, drawn: Sequence[float]) -> None:
    """Scale the axis that all panels share: from zero, or logarithmic if the costs differ by a large factor."""
    least, most = min(drawn), max(drawn)
    if least <= 0 or most / least <= LOG:
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, 0), high)
        return
    axes.set_xscale("log")
    axes.set_xlim(least / 1.3, most * 1.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most / least < 100 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.minorticks_off()


def _telling(study: Study, layout: Layout) -> list[str]:
    """The costs that vary, except those that are proportional to the budget or to another cost."""
    found: list[str] = []
    orders = [_shares([cell.queries for cell in study.cells])] if layout.x else []
    for cost in COSTS:
        means = [f.mean if (f := cell.figure(cost)) else None for cell in study.cells]
        shares = _shares(means)
        known = [place for place, share in enumerate(shares) if share is not None]
        told = any([order[place] for place in known] == [shares[place] for place in known] for order in orders)
        if len({shares[place] for place in known}) > 1 and not told:
            found.append(cost)
            orders.append(shares)
    return found


def _shares(values: Sequence[float | None]) -> list[float | None]:
    """Values divided by the least of them, rounded."""
    least = min((v for v in values if v), default=1)
    return [None if not v else round(v / least, 6) for v in values]


def _points(panel: Panel, cost: str, metric: str) -> Points:
    """The points of each line: its cells with both figures."""
    both = {line: [(cell.figure(cost), cell.figure(metric)) for cell in cells] for line, cells in panel.lines.items()}
    found = {line: [(x.mean, y) for x, y in figures if x and y] for line, figures in both.items()}
    return {line: points for line, points in found.items() if points}
