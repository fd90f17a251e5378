"""What agreement costs: seconds, dollars or queries, whichever vary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.ticker import FuncFormatter, LogLocator

from fmsteal.report.layout import Layout, Page
from fmsteal.report.plots.panels import Plot, frames, hollow, legend, series
from fmsteal.report.plots.theme import Theme
from fmsteal.report.study import Cell, Figure, Study
from fmsteal.report.wording import label

LOG = 5  # the dearest cell over the cheapest, from which on the axis is logarithmic
COSTS = ("cost/queries", "cost/usd", "cost/seconds")
NOTES = {"cost/seconds": "Wall time is that of the machines the jobs ran on, a victim made on the way included."}


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Agreement against each cost, a mark for each cell, those of one line joined by budget."""
    costs = _telling(study, layout) if not layout.metric.startswith("cost/") else []
    order = series(study, layout)
    pages, note = layout.figures(study)
    for page in pages if costs else []:
        figure, grid = frames(len(costs), (2.4, 2.0), sharey=True)
        handles: dict[str, Artist] = {}
        for axes, cost in zip(grid, costs, strict=True):
            drawn: list[float] = []
            for line, cells in _lines(page):
                style = theme.line(order.index(line))
                points = _points(cells, cost, layout.metric)
                at, means = [x for x, _ in points], [y.mean for _, y in points]
                drawn += at
                axes.plot(at, means, **{**style, "linewidth": 0.8, "alpha": 0.5, "marker": "none"})
                (joined,) = axes.plot(at, means, **{**style, "linestyle": "none"}, markeredgewidth=0)
                for x, y in points:
                    if not y.whole:
                        axes.plot(x, y.mean, **hollow(style, theme))
                handles.setdefault(line, joined)
            low, high = axes.get_xlim()
            axes.set(xlabel=label(cost), xlim=(max(low, 0), high))
            if drawn and min(drawn) > 0 and (most := _spread(study, cost)) > LOG:
                axes.set_xscale("log")
                axes.set_xlim(min(drawn) / 1.3, max(drawn) * 1.3)
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 else (1,)))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
                axes.minorticks_off()
            axes.grid(True)
        figure.supylabel(label(layout.metric), fontsize=8)
        shown = [name for name in order if name in handles]
        legend(figure, [handles[name] for name in shown], shown, layout.lines)
        said = "Means over seeds" + ("; cells that differ in the budget alone are joined." if layout.x else ".")
        panels = f" A line for each of {', '.join(layout.facets)}." if layout.facets else ""
        caption = " ".join([said + panels, *(NOTES[cost] for cost in costs if cost in NOTES)])
        yield Plot("cost", f"{label(layout.metric)} against its cost", caption, figure).about(page, note)


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


def _spread(study: Study, cost: str) -> float:
    means = [f.mean for cell in study.cells if (f := cell.figure(cost)) and f.mean > 0]
    return max(means) / min(means)


def _lines(page: Page) -> list[tuple[str, list[Cell]]]:
    return [(name, cells) for panel in page.panels for name, cells in panel.lines.items()]


def _points(cells: Sequence[Cell], cost: str, metric: str) -> list[tuple[float, Figure]]:
    both = [(cell.figure(cost), cell.figure(metric)) for cell in cells]
    return [(x.mean, y) for x, y in both if x and y]
