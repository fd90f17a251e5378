"""Figures made of panels, and what all kinds of plots share."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fmsteal.report.read.about import SHARE
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout, Page, Panel, name_values
from fmsteal.report.show.plots.theme import Theme
from fmsteal.report.show.wording import describe_cover

WIDE = 3  # panels in a row
PANEL = (2.3, 1.9)  # inches of a panel
LETTER, LINE = 0.063, 0.18  # inches of a legend's letter and line


@dataclass(frozen=True)
class Plot:
    """A figure and the words that go with it.

    Attributes:
        name: its file's name, without suffix.
        title: a title of one line.
        caption: what it shows, how many seeds, what was left out.
        figure: the figure, drawn but not written.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    def about(self, page: Page, note: str = "") -> Plot:
        """The plot with its page's values added to its title, and a note added to its caption."""
        title = self.title[:1].upper() + self.title[1:] + (f" ({name_values(page.values)})" if page.values else "")
        return replace(self, title=title, caption=f"{self.caption} {note}".strip())


def make_frames(
    count: int, size: tuple[float, float] = PANEL, wide: int = WIDE, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` frames, row by row."""
    columns = min(count, wide)
    rows = -(-count // columns)
    alone = 1.7 if columns == 1 else 1.25 if columns == 2 else 1.0
    figure = Figure(
        figsize=(size[0] * columns * alone, size[1] * rows * (1.3 if rows == 1 else 1.0) + 0.4),
        dpi=150,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
    for empty in grid[count:]:
        empty.remove()
    return figure, grid[:count]


def count_across(panels: Sequence[Panel]) -> int:
    """How many panels go in a row: if they form a grid of two axes, as many as the second has choices."""
    last = {list(panel.values.values())[-1] for panel in panels if len(panel.values) > 1}
    return len(last) if 1 < len(last) <= WIDE + 1 and len(panels) % len(last) == 0 else WIDE


def list_series(study: Study, layout: Layout) -> list[str]:
    """The compared choices, in the order of their colours."""
    return study.values(layout.lines) if layout.lines else [""]


def set_title(axes: Axes, title: str, width: int = 36) -> None:
    """Set a panel's title, on as many lines as it needs."""
    axes.set_title(textwrap.fill(title, width), loc="left")


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str | None) -> None:
    """Add a legend beside the panels, and room for it; do nothing if no axis is compared."""
    if title is None:
        return
    width, height = figure.get_size_inches()
    longest = max(map(len, (title, *labels)))
    figure.set_size_inches(width + 0.45 + LETTER * longest, max(height, LINE * (len(labels) + 2)))
    figure.legend(handles, labels, title=title, loc="outside right upper", alignment="left")


def hollow_mark(style: Mapping[str, Any], theme: Theme) -> dict[str, Any]:
    """The style of the mark of a figure that lacks seeds."""
    paper = "white" if theme.paper == "none" else theme.paper
    return {**style, "markerfacecolor": paper, "markeredgewidth": 1, "linestyle": "none", "zorder": 4}


def show_whole_scale(grid: Sequence[Axes], study: Study, metric: str, axis: str = "y") -> None:
    """If the metric is a share, show all of 0 to 1, and marks at either end in full."""
    if any(cell.bounds(metric) != SHARE for cell in study.cells if cell.done):
        return
    for axes in grid:
        axes.set(**{f"{axis}lim": SHARE})
        for line in axes.lines:
            line.set_clip_on(False)


def describe_state(panels: Sequence[Panel], metric: str) -> str:
    """Says how many cells lack seeds, or have no figure; "" if none."""
    figures = [cell.figure(metric) for panel in panels for cell in panel.cells]
    torn, none = sum(f is not None and not f.whole for f in figures), figures.count(None)
    said = [f"{torn} with fewer seeds than asked for (hollow)"] if torn else []
    said += [f"{none} without a result (left out)"] if none else []
    return f"Of {len(figures)} cells, {' and '.join(said)}." if said else ""


def describe_over(panels: Sequence[Panel], metric: str) -> str:
    """What the intervals of a figure cover, as `` over seeds and test images``; "" if there are none."""
    found = describe_cover(cell.figure(metric) for panel in panels for cell in panel.cells)
    return f" over {found}" if found else ""
