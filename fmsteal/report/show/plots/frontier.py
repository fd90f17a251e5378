"""What a defense buys: agreement of the strongest attacker, against what honest users pay for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.read.worst_case import (
    DEFENSE,
    OF_CLASSIFIERS,
    OF_ENCODERS,
    WorstCase,
    is_attackers,
    judge_defenses,
)
from fmsteal.report.show.layout import MOST_PAGES, Layout, Page, describe_left_out
from fmsteal.report.show.plots.panels import Plot, add_legend, make_frames
from fmsteal.report.show.plots.theme import Theme
from fmsteal.report.show.worst_case import NAIVE

PRICES = {
    OF_CLASSIFIERS: ("L1 distance of a test answer", "accuracy of defended test answers"),
    OF_ENCODERS: ("L2 distance of a test answer", "downstream accuracy of defended answers"),
}
ROOM = 0.08  # of the range, on either side
FEWEST = 2  # defenses for a frontier


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """A plot for each victim and budget: a point for each defense and its options, grey if another is better."""
    varies = DEFENSE in study.columns and any(is_attackers(name) for name in study.columns)
    if layout.metric != HEADLINE or not varies or not any(price.distance in study.metrics for price in PRICES):
        return
    found, _ = judge_defenses(study, NAIVE)
    found = [each for each in found if all(name in each.honest for name in (each.price.distance, each.price.accuracy))]
    pages = [(key, list(cases)) for key, cases in groupby(sorted(found, key=_page), _page)]
    pages = [(key, cases) for key, cases in pages if len(cases) >= FEWEST]
    order = study.values(DEFENSE)
    for key, cases in pages[:MOST_PAGES]:
        figure, grid = make_frames(2, sharey=True)
        handles: dict[str, Artist] = {}
        shown_price = cases[0].price
        names = (shown_price.distance, shown_price.accuracy)
        for axes, price, label in zip(grid, names, PRICES[shown_price], strict=True):
            handles |= _points(axes, cases, price, order, theme)
            axes.set_xlabel(label, fontsize=8)
            axes.margins(ROOM)
            axes.grid(True)
        figure.supylabel("agreement of the strongest attacker", fontsize=8)
        shown = [name for name in order if name in handles]
        add_legend(figure, [handles[name] for name in shown], shown, DEFENSE)
        caption = (
            "Lower is a better defense; it is better for honest users to the left in the first frame, to the right in "
            "the second. Each point is a defense with its options, grey if another is as good in all three and better "
            "in one. The attacker is chosen on one half of the test images, its agreement is of the other, with the "
            "95 % interval where there are three seeds."
        )
        yield Plot("frontier", "what a defense buys, and what it costs", caption, figure).about(
            Page(dict(key), []), describe_left_out(len(pages), layout)
        )


def _page(case: WorstCase) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in case.values.items() if not name.startswith(DEFENSE))


def _points(
    axes: Axes, cases: Sequence[WorstCase], price: str, order: Sequence[str], theme: Theme
) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for case in cases:
        name, mean = case.values[DEFENSE], case.agreement.mean
        style = {**theme.line(order.index(name)), "linestyle": "none", "markeredgewidth": 0.8}
        low, high = case.agreement.interval or (mean, mean)
        colour = {"color": theme.grid, "zorder": 1} if case.dominated else {"zorder": 2}
        bars = axes.errorbar(
            case.honest[price],
            mean,
            [[max(mean - low, 0.0)], [max(high - mean, 0.0)]],
            elinewidth=0.8,
            **style | colour,
        )
        if not case.dominated or name not in handles:
            handles[name] = bars.lines[0]
    return handles
