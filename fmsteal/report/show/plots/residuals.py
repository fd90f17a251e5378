"""How much of an API's answers each candidate trunk leaves unexplained, and which one attack=trunk_inference named."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes

from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import MOST_PAGES, MOST_PANELS, Layout, Page, describe_left_out, name_values
from fmsteal.report.show.plots.panels import Plot, make_frames, set_title
from fmsteal.report.show.plots.theme import Theme

RESIDUAL, NAMED = "attack/residual/", "attack/named/"


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """Bars by candidate for each cell whose attack reports residuals."""
    if layout.metric != HEADLINE:  # they are the same for every metric
        return
    cells = [(cell, names) for cell in study.cells if (names := list_candidates(cell))]
    pages = [cells[start : start + MOST_PANELS] for start in range(0, len(cells), MOST_PANELS)]
    for page in pages[:MOST_PAGES]:
        most = max(len(names) for _, names in page)
        figure, grid = make_frames(len(page), (2.5, 0.2 * most + 0.7), sharex=True)
        for axes, (cell, names) in zip(grid, page, strict=True):
            _bars(axes, cell, names, theme)
            set_title(axes, name_values({name: cell.values[name] for name in study.columns}))
            axes.tick_params(labelbottom=True)
        figure.supxlabel("relative residual of held-out answers", fontsize=8)
        caption = (
            "Means over seeds, each seed a dot; 1 is as bad as predicting the mean answer. Beside a candidate: of how "
            "many seeds it was named as the trunk behind the API."
        )
        yield Plot("residuals", "What each candidate trunk leaves unexplained", caption, figure).about(
            Page({}, []), describe_left_out(len(pages), layout)
        )


def list_candidates(cell: Cell) -> list[str]:
    """The candidates for which a cell's jobs report residuals, sorted by name."""
    metrics = {name for job in cell.jobs for name in (job.on_disk.result or {}).get("metrics") or {}}
    return sorted(name.removeprefix(RESIDUAL) for name in metrics if name.startswith(RESIDUAL))


def _bars(axes: Axes, cell: Cell, names: list[str], theme: Theme) -> None:
    for place, name in enumerate(names):
        values = list(cell.by_seed(RESIDUAL + name).values())
        chosen = list(cell.by_seed(NAMED + name).values())
        mean = sum(values) / len(values) if values else 0.0
        axes.barh(place, mean, 0.7, color=theme.series[0], alpha=0.75 if any(chosen) else 0.3)
        axes.plot(values, [place] * len(values), "o", color=theme.ink, markersize=2, zorder=3)
        axes.text(1.0, place, f" {sum(chosen):.0f}/{len(chosen)}", va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
