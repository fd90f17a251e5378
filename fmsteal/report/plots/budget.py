"""Agreement against the budget, a line for each choice that is compared."""

from __future__ import annotations

import math
from collections.abc import Iterator

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fmsteal.report.layout import Layout, Panel
from fmsteal.report.plots.panels import Plot, across, frames, hollow, legend, series, state, titled
from fmsteal.report.plots.theme import Theme
from fmsteal.report.study import Study
from fmsteal.report.wording import label

FEW = 6  # lines whose bands can be told apart
NEAR = 1.25  # budgets whose ratio is less share a tick


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Curves with bands, where the number of queries varies."""
    if not layout.x:
        return
    order = series(study, layout)
    pages, note = layout.figures(study)
    for page in pages:
        panels = [p for p in page.panels if any(cell.figure(layout.metric) for cell in p.cells)]
        if not panels:
            continue
        figure, grid = frames(len(panels), wide=across(panels), sharex=True, sharey=True)
        handles: dict[str, Artist] = {}
        for axes, panel in zip(grid, panels, strict=True):
            handles |= _curves(axes, panel, layout, order, theme)
            titled(axes, panel.title)
        for axes in grid:
            axes.label_outer()
        figure.supxlabel("queries", fontsize=8)
        figure.supylabel(label(layout.metric), fontsize=8)
        shown = [name for name in order if name in handles]
        legend(figure, [handles[name] for name in shown], shown, layout.lines)
        bands = "bands are Student's 95 % intervals of the mean, and absent for a single seed"
        caption = f"Means over seeds; {bands}. {state(panels, layout.metric)}".strip()
        yield Plot("budget", f"{label(layout.metric)} against the budget", caption, figure).about(page, note)


def _curves(axes: Axes, panel: Panel, layout: Layout, order: list[str], theme: Theme) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for name, cells in panel.lines.items():
        points = [(c.queries, c.figure(layout.metric)) for c in cells if c.queries]
        if not any(figure for _, figure in points):
            continue
        style = theme.line(order.index(name))
        x, means = [q for q, _ in points], [f.mean if f else math.nan for _, f in points]
        (handles[name],) = axes.plot(x, means, zorder=3, markeredgewidth=0, **style)
        torn = [(q, f.mean) for q, f in points if f and not f.whole]
        for queries, mean in torn:
            axes.plot(queries, mean, **hollow(style, theme))
        banded = [(q, *f.interval) for q, f in points if f and f.interval]
        if len(banded) > 1:
            at, low, high = zip(*banded, strict=True)
            faint = 0.15 if len(panel.lines) <= FEW else 0.06
            axes.fill_between(at, low, high, color=style["color"], alpha=faint, linewidth=0, zorder=2)
    axes.set_xscale("log")
    budgets = sorted({c.queries for c in panel.cells if c.queries})
    ticks = [b for place, b in enumerate(budgets) if not place or b / budgets[place - 1] >= NEAR]
    axes.set_xticks(ticks, [short(b) for b in ticks])
    axes.minorticks_off()
    axes.grid(True)
    return handles


def short(queries: int) -> str:
    """A budget as its config is called: 500, 1k, 2.5k."""
    return f"{queries / 1000:g}k" if queries >= 1000 else str(queries)
