"""Agreement against the budget, with a line for each compared choice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fmsteal.report.read.study import Figure, Study
from fmsteal.report.show.layout import Layout, Panel
from fmsteal.report.show.plots.panels import (
    Plot,
    add_legend,
    count_across,
    describe_over,
    describe_state,
    hollow_mark,
    list_series,
    make_frames,
    set_title,
    show_whole_scale,
)
from fmsteal.report.show.plots.theme import Theme

FEW = 6  # lines whose bands can be distinguished
Points = Sequence[tuple[int, Figure | None]]  # budgets, each with its figure
NEAR = 1.25  # budgets whose ratio is less share a tick


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Curves with bands, if the number of queries varies."""
    if not layout.x:
        return
    order = list_series(study, layout)
    pages, note = layout.figures(study)
    for page in pages:
        panels = [p for p in page.panels if any(cell.figure(layout.metric) for cell in p.cells)]
        if not panels:
            continue
        figure, grid = make_frames(len(panels), wide=count_across(panels), sharex=True, sharey=True)
        handles: dict[str, Artist] = {}
        for axes, panel in zip(grid, panels, strict=True):
            handles |= _curves(axes, panel, layout, order, theme)
            set_title(axes, panel.title)
        show_whole_scale(grid, study, layout.metric)
        for axes in grid:
            axes.label_outer()
        figure.supxlabel("queries", fontsize=8)
        figure.supylabel(study.label(layout.metric), fontsize=8)
        shown = [name for name in order if name in handles]
        add_legend(figure, [handles[name] for name in shown], shown, layout.lines)
        ends = f"95 % intervals of the mean{describe_over(panels, layout.metric)}"
        bands = f"bands are {ends}, from three seeds on; two seeds are two dots"
        caption = f"Means over seeds; {bands}. {describe_state(panels, layout.metric)}".strip()
        yield Plot("budget", f"{study.label(layout.metric)} against the budget", caption, figure).about(page, note)


def _curves(axes: Axes, panel: Panel, layout: Layout, order: list[str], theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for name, cells in panel.lines.items():
        points = [(cell.queries, cell.figure(layout.metric)) for cell in cells if cell.queries]
        if any(figure for _, figure in points):
            style = theme.line(order.index(name))
            handles[name] = _curve(axes, points, style, theme)
            _bands(axes, points, style["color"], 0.15 if len(panel.lines) <= FEW else 0.06)
    axes.set_xscale("log")
    budgets = sorted({c.queries for c in panel.cells if c.queries})
    ticks = [b for place, b in enumerate(budgets) if not place or b / budgets[place - 1] >= NEAR]
    axes.set_xticks(ticks, [shorten(b) for b in ticks])
    axes.minorticks_off()
    axes.grid(True)
    return handles


def _curve(axes: Axes, points: Points, style: dict[str, Any], theme: Theme) -> Artist:
    """Draw the means, hollow if seeds are missing, and both figures of two seeds."""
    x, means = [q for q, _ in points], [f.mean if f else math.nan for _, f in points]
    (line,) = axes.plot(x, means, zorder=3, markeredgewidth=0, **style)
    for queries, mean in [(q, f.mean) for q, f in points if f and not f.whole]:
        axes.plot(queries, mean, **hollow_mark(style, theme))
    if pairs := [(q, point) for q, f in points if f and f.n == 2 for point in f.points]:
        axes.plot(*zip(*pairs, strict=True), "o", color=style["color"], markersize=2, zorder=3)
    return line


def _bands(axes: Axes, points: Points, colour: str, faint: float) -> None:
    """Draw the intervals: as a band over several budgets, as a line at a single one."""
    banded = [(q, *f.interval) for q, f in points if f and f.interval]
    if len(banded) > 1:
        places, lows, highs = zip(*banded, strict=True)
        axes.fill_between(places, lows, highs, color=colour, alpha=faint, linewidth=0, zorder=2)
    else:
        for at, low, high in banded:
            axes.vlines(at, low, high, color=colour, linewidth=1, zorder=2)


def shorten(queries: int) -> str:
    """A budget as short as its config's name: 500, 1k, 2.5k."""
    return f"{queries / 1000:g}k" if queries >= 1000 else str(queries)
