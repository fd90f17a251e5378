"""The effect of each defense: agreement under it, beside that with the undefended API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout, Panel
from fmsteal.report.show.plots.bars import keep_measured
from fmsteal.report.show.plots.panels import (
    Plot,
    add_legend,
    count_across,
    describe_over,
    describe_state,
    list_series,
    make_frames,
    set_title,
    show_whole_scale,
)
from fmsteal.report.show.plots.theme import Theme

UNDEFENDED = "none"
SPREAD = 0.7  # share of the distance between two defenses over which the marks of one are spread


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Agreement by defense, if defenses vary, with a mark for each choice of another axis."""
    if "defense" not in study.columns:
        return
    layout = _beside(layout)
    defenses = sorted(study.values("defense"), key=lambda name: (name != UNDEFENDED, name))
    order = list_series(study, layout)
    pages, note = layout.figures(study)
    for page in pages:
        panels = keep_measured(page, layout.metric)
        if not panels:
            continue
        figure, grid = make_frames(len(panels), wide=count_across(panels), sharex=True, sharey=True)
        handles: dict[str, Artist] = {}
        for axes, panel in zip(grid, panels, strict=True):
            handles |= _defended(axes, panel, layout.metric, defenses, order, theme)
            set_title(axes, panel.title)
            axes.label_outer()
        show_whole_scale(grid, study, layout.metric)
        figure.supylabel(study.label(layout.metric), fontsize=8)
        shown = [name for name in order if name in handles]
        add_legend(figure, [handles[name] for name in shown], shown, layout.lines)
        caption = (
            f"Means over seeds{' at the largest budget' if layout.x else ''}, with 95 % intervals"
            f"{describe_over(panels, layout.metric)} from three seeds on (of two seeds, both are dots); dotted "
            "lines go on from the undefended API. What a defense costs its honest users is no axis here. "
            f"{describe_state(panels, layout.metric)}"
        )
        yield Plot("defense", f"{study.label(layout.metric)} under each defense", caption.strip(), figure).about(
            page, note
        )


def _beside(layout: Layout) -> Layout:
    """The layout with defenses on the x axis: other axes become marks first, then panels, then pages."""
    others = [name for name in (layout.lines, *layout.facets, *layout.pages) if name and name != "defense"]
    by = others[0] if others else None
    return replace(layout, lines=by, facets=tuple(others[1:3]), pages=tuple(others[3:]))


def _defended(
    axes: Axes, panel: Panel, metric: str, defenses: list[str], order: list[str], theme: Theme
) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    present = [name for name in order if name in panel.lines]
    for place, name in enumerate(present):
        shift = (place - (len(present) - 1) / 2) * SPREAD / max(len(present), 2)
        style = {**theme.line(order.index(name)), "linestyle": "none"}
        for cell in panel.lines[name]:
            figure = cell.figure(metric)
            if figure is None:
                continue
            defense = cell.values["defense"]
            at = defenses.index(defense) + shift
            low, high = figure.interval or (figure.mean, figure.mean)
            ends = [[figure.mean - low], [high - figure.mean]]
            bars = axes.errorbar(at, figure.mean, ends, elinewidth=1, markeredgewidth=0.8, **style)
            if figure.n == 2:
                axes.plot([at] * 2, figure.points, "o", color=style["color"], markersize=2, zorder=3)
            bars.lines[0].set_markerfacecolor(style["color"] if figure.whole else "none")
            handles[name] = bars.lines[0]
            if defense == UNDEFENDED:
                axes.plot((at, len(defenses) - 0.5), [figure.mean] * 2, ":", color=style["color"], linewidth=0.8)
    axes.set_xticks(np.arange(len(defenses)), defenses, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(defenses) - 0.5)
    axes.grid(True, axis="y")
    return handles
