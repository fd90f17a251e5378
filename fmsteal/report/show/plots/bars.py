"""The compared choices at the largest budget, best first: means with intervals, and each seed."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import Layout, Page, Panel
from fmsteal.report.show.plots.panels import (
    Plot,
    describe_over,
    describe_state,
    list_series,
    make_frames,
    set_title,
    show_whole_scale,
)
from fmsteal.report.show.plots.theme import Theme
from fmsteal.report.show.wording import describe_missing


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Bars for each panel, if there is something to compare."""
    if not layout.lines or len(list_series(study, layout)) < 2:
        return
    pages, note = layout.figures(study)
    for page in pages:
        panels = keep_measured(page, layout.metric)
        if not panels:
            continue
        names = max(len(panel.lines) for panel in panels)
        figure, grid = make_frames(len(panels), (2.5, 0.17 * names + 0.6), sharex=True)
        for axes, panel in zip(grid, panels, strict=True):
            lines = rank_cells(panel, layout.metric, study.direction(layout.metric))
            _bars(axes, lines, layout.metric, list_series(study, layout), theme)
            set_title(axes, _title(panel, layout))
            axes.tick_params(labelbottom=True)
        show_whole_scale(grid, study, layout.metric, "x")
        figure.supxlabel(study.label(layout.metric), fontsize=8)
        ends = f"95 % intervals{describe_over(panels, layout.metric)}"
        caption = f"Means over seeds with {ends}, each seed a dot. {describe_state(panels, layout.metric)}"
        name = "attacks" if layout.lines == "attack" else "bars"
        many = " at the largest budget" if layout.x else ""
        yield Plot(name, f"{study.label(layout.metric)} by {layout.lines}{many}", caption.strip(), figure).about(
            page, note
        )


def _title(panel: Panel, layout: Layout) -> str:
    queries = panel.cells[0].queries
    budget = f"{queries:,} queries" if layout.x and queries else ""
    return ", ".join(filter(None, (panel.title, budget)))


def keep_largest(panel: Panel) -> Panel:
    """The panel with the cells of its largest budget alone."""
    most = max((cell.queries or 0 for cell in panel.cells), default=0)
    lines = {name: [c for c in cells if (c.queries or 0) == most] for name, cells in panel.lines.items()}
    return Panel(panel.values, {name: cells for name, cells in lines.items() if cells})


def keep_measured(page: Page, metric: str) -> list[Panel]:
    """The panels of a page, each at its largest budget, that have the metric there."""
    panels = [keep_largest(panel) for panel in page.panels]
    return [panel for panel in panels if any(cell.figure(metric) for cell in panel.cells)]


def rank_cells(panel: Panel, metric: str, higher_is_better: bool | None) -> list[tuple[str, Cell]]:
    """Names and cells, best first, or in their own order if no direction is better; those without a figure last."""
    sign = {True: -1, False: 1, None: 0}[higher_is_better]

    def rank(line: tuple[str, Cell]) -> tuple[bool, float]:
        figure = line[1].figure(metric)
        return figure is None, sign * figure.mean if figure else 0.0

    return sorted(((name, cell) for name, cells in panel.lines.items() for cell in cells), key=rank)


def _bars(axes: Axes, lines: list[tuple[str, Cell]], metric: str, order: list[str], theme: Theme) -> None:
    for place, (name, cell) in enumerate(lines):
        figure = cell.figure(metric)
        if figure is None:
            axes.text(
                0.01,
                place,
                describe_missing(cell),
                va="center",
                fontsize=7,
                style="italic",
                transform=axes.get_yaxis_transform(),
            )
            continue
        colour = theme.line(order.index(name))["color"]
        axes.barh(place, figure.mean, 0.7, color=colour, alpha=0.75 if figure.whole else 0.3)
        if figure.interval:
            axes.plot(figure.interval, (place, place), color=theme.ink, linewidth=1, marker="|", markersize=5)
        seeds = list(cell.by_seed(metric).values())
        axes.plot(seeds, [place] * len(seeds), "o", color=theme.ink, markersize=2, zorder=3)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
