"""The plots of a study, each kind if the study has data for it, and their files. Imports no torch, no pyplot."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from fmsteal.base.store import explain_errors
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.plots import bars, budget, classes, cost, defense, frontier, matrix, residuals, robustness
from fmsteal.report.show.plots.panels import Plot
from fmsteal.report.show.plots.theme import PAPER, Theme

__all__ = ["PAPER", "Plot", "Theme", "draw_figures", "to_svg", "write"]

KINDS = (
    budget.plots, matrix.plots, bars.plots, defense.plots, frontier.plots, classes.plots, residuals.plots, cost.plots,
    robustness.plots,
)  # fmt: skip
UNDATED = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def draw_figures(study: Study, layout: Layout, theme: Theme = PAPER) -> Iterator[Plot]:
    """Every plot that the study has figures for, one at a time; several of a kind are numbered.

    Names of plots include the metric unless it is the headline.
    """
    seen: Counter[str] = Counter()
    suffix = "" if layout.metric == HEADLINE else f"-{layout.metric.replace('/', '-')}"
    for kind in KINDS:
        plots = kind(study, layout, theme)
        while True:
            with mpl.rc_context(theme.rc()):
                plot = next(plots, None)
            if plot is None:
                break
            seen[plot.name] += 1
            number = f"-{seen[plot.name]}" if seen[plot.name] > 1 else ""
            yield replace(plot, name=f"{plot.name}{suffix}{number}")


def to_svg(figure: Figure, theme: Theme = PAPER) -> str:
    """A figure as an ``<svg>`` element whose text stays text. The output is deterministic."""
    stream = io.StringIO()
    with mpl.rc_context(theme.rc()):
        figure.savefig(stream, format="svg", metadata=UNDATED["svg"], transparent=theme.paper == "none")
    return stream.getvalue()[stream.getvalue().index("<svg") :]


def write(
    plots: Iterable[Plot], folder: Path, formats: Iterable[str] = ("png", "pdf"), theme: Theme = PAPER
) -> list[Path]:
    """Write each plot in each format, without dates, so that the same results give the same files."""
    written = []
    with explain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            for kind in formats:
                file = folder / f"{plot.name}.{kind}"
                with mpl.rc_context(theme.rc()):
                    plot.figure.savefig(file, format=kind, metadata=UNDATED.get(kind))
                plot.figure.set_layout_engine("none")  # keep the layout for the other formats
                written.append(file)
    return written
