"""What agreement costs: seconds, dollars or queries, whichever vary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from fmsteal.report.layout import Layout, Panel
from fmsteal.report.plots.panels import Plot, across, frames, hollow, legend, series, state, titled
from fmsteal.report.plots.theme import Theme
from fmsteal.report.study import Cell, Figure, Study
from fmsteal.report.wording import label

LOG = 5  # the dearest cell over the cheapest, from which on the axis is logarithmic
COSTS = ("cost/queries", "cost/usd", "cost/seconds")
NOTES = {"cost/seconds": "Wall time is that of the machines the jobs ran on, a victim made on the way included."}


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """For each cost that tells something, agreement against it: a mark for each cell, those of one line joined."""
    costs = _telling(study, layout) if not layout.metric.startswith("cost/") else []
    order = series(study, layout)
    pages, note = layout.figures(study)
    for page in pages:
        for cost in costs:
            panels = [panel for panel in page.panels if any(_points(panel.cells, cost, layout.metric))]
            if not panels:
                continue
            figure, grid = frames(len(panels), wide=across(panels), sharex=True, sharey=True)
            handles: dict[str, Artist] = {}
            for axes, panel in zip(grid, panels, strict=True):
                handles |= _marks(axes, panel, cost, layout, order, theme)
                titled(axes, panel.title)
            _scale(grid[0], [x for panel in panels for x, _ in _points(panel.cells, cost, layout.metric)])
            for axes in grid:
                axes.label_outer()
            figure.supxlabel(label(cost), fontsize=8)
            figure.supylabel(label(layout.metric), fontsize=8)
            shown = [name for name in order if name in handles]
            legend(figure, [handles[name] for name in shown], shown, layout.lines)
            said = "Means over seeds" + ("; cells that differ in the budget alone are joined." if layout.x else ".")
            caption = f"{said} {NOTES.get(cost, '')} {state(panels, layout.metric)}".strip()
            yield Plot("cost", f"{label(layout.metric)} against {label(cost)}", caption, figure).about(page, note)


def _marks(axes: Axes, panel: Panel, cost: str, layout: Layout, order: list[str], theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for line, cells in panel.lines.items():
        points = _points(cells, cost, layout.metric)
        if not points:
            continue
        style = theme.line(order.index(line))
        at, means = [x for x, _ in points], [y.mean for _, y in points]
        axes.plot(at, means, **{**style, "linewidth": 0.8, "alpha": 0.5, "marker": "none"})
        (handles[line],) = axes.plot(at, means, **{**style, "linestyle": "none"}, markeredgewidth=0)
        for x, y in points:
            if not y.whole:
                axes.plot(x, y.mean, **hollow(style, theme))
    axes.grid(True)
    return handles


def _scale(axes: Axes, drawn: Sequence[float]) -> None:
    """From zero, or logarithmic where the dearest is many times the cheapest; for all panels, which share it."""
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
    """The costs that vary, but for those that are another one in other units, or the budget."""
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
    """Values in units of the least of them, rounded."""
    least = min((v for v in values if v), default=1)
    return [None if not v else round(v / least, 6) for v in values]


def _points(cells: Sequence[Cell], cost: str, metric: str) -> list[tuple[float, Figure]]:
    both = [(cell.figure(cost), cell.figure(metric)) for cell in cells]
    return [(x.mean, y) for x, y in both if x and y]
