"""How well each thief steals each victim: a heat map with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import MOST_PAGES, Layout, Page, Panel, describe_left_out, name_values
from fmsteal.report.show.plots.panels import Plot, describe_over, make_frames, set_title
from fmsteal.report.show.plots.theme import Theme
from fmsteal.report.show.wording import describe_missing, format_spread

MOST = 6  # matrices in a figure


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """A matrix for each combination of the other columns, if both victims and thieves vary."""
    if not {"victim", "thief"} <= set(study.columns):
        return
    victims, thieves = study.values("victim"), study.values("thief")
    panels = _panels(study, layout)
    pages = [panels[start : start + MOST] for start in range(0, len(panels), MOST)]
    for page in pages[:MOST_PAGES]:
        means = [f.mean for p in panels for cell in p.cells if (f := cell.figure(layout.metric))]
        scale = ScalarMappable(Normalize(min(means), max(means)), theme.heat)
        size = (0.62 * len(thieves) + 0.9, 0.42 * len(victims) + 0.8)
        figure, grid = make_frames(len(page), size, sharex=True, sharey=True)
        for axes, panel in zip(grid, page, strict=True):
            _matrix(axes, panel.cells, victims, thieves, layout.metric, scale)
            set_title(axes, name_values(panel.values), int(13 * size[0]))
            axes.label_outer()
        figure.supxlabel("thief", fontsize=8)
        figure.supylabel("victim", fontsize=8)
        bar = figure.colorbar(scale, ax=grid, label=study.label(layout.metric), shrink=0.8, aspect=25)
        bar.outline.set_visible(False)
        half = f"half the 95 % interval{describe_over(page, layout.metric)} or its ends"
        caption = f"Means over seeds; below them {half}, of two seeds the two figures."
        title = f"{study.label(layout.metric)} of every thief with every victim"
        yield Plot("matrix", title, caption, figure).about(Page({}, page), describe_left_out(len(pages), layout))


def _panels(study: Study, layout: Layout) -> list[Panel]:
    """The combinations of the other columns that have a figure, in order; the budget varies fastest."""
    rest = [name for name in study.columns if name not in ("victim", "thief")]
    groups = study.groups(("victim", "thief"))
    panels = [Panel(dict(zip(rest, values, strict=True)), {"": cells}) for values, cells in groups.items()]
    panels = [p for p in panels if any(cell.figure(layout.metric) for cell in p.cells)]
    return sorted(
        panels, key=lambda p: ([v for n, v in p.values.items() if n not in layout.x], p.cells[0].queries or 0)
    )


def _matrix(axes: Axes, cells: Sequence[Cell], victims: list[str], thieves: list[str], metric: str, scale: Any) -> None:
    values = np.full((len(victims), len(thieves)), np.nan)
    for cell in cells:
        row, column = victims.index(cell.values["victim"]), thieves.index(cell.values["thief"])
        figure = cell.figure(metric)
        if figure is None:
            axes.text(
                column,
                row,
                describe_missing(cell).replace(", ", ",\n"),
                ha="center",
                va="center",
                fontsize=6,
                style="italic",
            )
            continue
        values[row, column] = figure.mean
        told = format_spread(figure, metric).replace(" and ", "\nand ").replace(" to ", "\nto ")
        text = f"{figure.mean:.3f}\n{told}".rstrip()
        text += "" if figure.whole else f"\n{figure.n} of {figure.of}"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=pick_contrast(scale, figure.mean))
    draw(axes, values, scale)
    axes.set_xticks(range(len(thieves)), thieves, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(victims)), victims)


def draw(axes: Axes, values: np.ndarray, scale: Any) -> None:
    """Draw coloured cells ``(rows, columns)``, the first row on top; missing values stay blank."""
    rows, columns = values.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(*edges, np.ma.masked_invalid(values), cmap=scale.cmap, norm=scale.norm, edgecolors="none")
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def pick_contrast(scale: Any, value: float) -> str:
    """Black or white, whichever has the greater contrast (WCAG 2.2) with the colour of a value."""
    rgb = np.array(scale.to_rgba(value)[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    light = float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05
    return "black" if light / 0.05 > 1.05 / light else "white"
