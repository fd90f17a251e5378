"""Is a robust victim harder to steal? How completely each victim was stolen, against its own robustness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import MOST_PAGES, Layout, Page, describe_left_out
from fmsteal.report.show.plots.panels import Plot, add_legend, hollow_mark, make_frames, set_title, show_whole_scale
from fmsteal.report.show.plots.theme import Theme

PREFIX, SUFFIX = "robustness/", "/victim_accuracy"
VICTIM = "victim"


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """A plot for each combination of other columns, with a frame for each kind of robustness and a point per victim."""
    kinds = gather_robustness(study)
    if not kinds or VICTIM not in study.columns or layout.metric.startswith(("cost/", PREFIX)):
        return
    names = [name for name in study.columns if name != VICTIM]
    groups = {key: cells for key, cells in study.groups([VICTIM]).items() if _measured(cells, layout.metric, kinds)}
    order = study.values(VICTIM)
    for key, cells in list(groups.items())[:MOST_PAGES]:
        figure, grid = make_frames(len(kinds), sharey=True)
        handles: dict[str, Artist] = {}
        for axes, kind in zip(grid, kinds, strict=True):
            handles |= _points(axes, cells, kind, layout.metric, order, theme)
            set_title(axes, study.label(kind))
            axes.tick_params(labelbottom=True)
            show_whole_scale([axes], study, kind, "x")
        show_whole_scale(grid, study, layout.metric)
        figure.supxlabel("the victim's own accuracy", fontsize=8)
        figure.supylabel(study.label(layout.metric), fontsize=8)
        shown = [name for name in order if name in handles]
        add_legend(figure, [handles[name] for name in shown], shown, VICTIM)
        caption = (
            "Means over seeds, each seed a dot; hollow where seeds are missing. The first frame is what a victim's "
            "accuracy alone would explain."
        )
        title = f"{study.label(layout.metric)} against the victim's robustness"
        page = Page(dict(zip(names, key, strict=True)), [])
        yield Plot("robustness", title, caption, figure).about(page, describe_left_out(len(groups), layout))


def gather_robustness(study: Study) -> list[str]:
    """The victims' own accuracies that ``evaluation=robustness`` measured: clean, under PGD, under all corruptions."""
    whole = [name for name in study.metrics if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    whole = [name for name in whole if name.count("/") == 2]  # not those of single corruptions
    return sorted(whole, key=lambda name: (name != f"{PREFIX}clean{SUFFIX}", "pgd" in name, name))


def _measured(cells: Sequence[Cell], metric: str, kinds: Sequence[str]) -> bool:
    """Whether at least two victims have both a robustness and the metric."""
    return sum(any(cell.figure(kind) for kind in kinds) and cell.figure(metric) is not None for cell in cells) > 1


def _points(
    axes: Axes, cells: Sequence[Cell], kind: str, metric: str, order: list[str], theme: Theme
) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for cell in cells:
        x, y = cell.figure(kind), cell.figure(metric)
        if x is None or y is None:
            continue
        style = {**theme.line(order.index(cell.values[VICTIM])), "linestyle": "none"}
        both = [
            (at, cell.by_seed(metric)[seed]) for seed, at in cell.by_seed(kind).items() if seed in cell.by_seed(metric)
        ]
        if len(both) > 1:
            axes.plot(*zip(*both, strict=True), "o", color=style["color"], markersize=2, alpha=0.6)
        look = style if x.whole and y.whole else hollow_mark(style, theme)
        (handles[cell.values[VICTIM]],) = axes.plot(x.mean, y.mean, **{"markeredgewidth": 0, **look})
    axes.grid(True)
    return handles
