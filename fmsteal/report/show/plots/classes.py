"""Agreement of thief and victim by class: a heat map from the predictions that the jobs keep."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from fmsteal.base.errors import StoreError
from fmsteal.records.folders import JobFolder
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.predictions import list_sets, load_labels, open_predictions
from fmsteal.report.read.study import Cell, Study
from fmsteal.report.show.layout import Layout, Panel
from fmsteal.report.show.plots.bars import keep_largest, rank_cells
from fmsteal.report.show.plots.matrix import draw, pick_contrast
from fmsteal.report.show.plots.panels import LETTER, Plot, make_frames, set_title
from fmsteal.report.show.plots.theme import Theme

MOST = 40  # classes in a panel
MOST_NUMBERS = 12  # classes above which cells show colours alone
LONGEST = 24  # letters of a class's name
UPRIGHT = 3  # letters up to which names fit side by side

Shares = npt.NDArray[np.float64]
Counts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # images that agree, all images, of each class


def plots(study: Study, layout: Layout, theme: Theme) -> Iterator[Plot]:
    """A figure for each set of images, with a row for each compared choice and a column for each class."""
    if layout.metric != HEADLINE:
        return
    pages, note = layout.figures(study)
    for page in pages:
        panels = [keep_largest(panel) for panel in page.panels]
        found = [_of_panel(panel, layout) for panel in panels]
        for name in dict.fromkeys(name for rows in found for row in rows.values() for name in row):
            shown = [
                (panel, {line: row[name] for line, row in rows.items() if name in row})
                for panel, rows in zip(panels, found, strict=True)
            ]
            yield _plot(name, [(panel, rows) for panel, rows in shown if rows], layout, theme).about(page, note)


def _plot(name: str, drawn: Sequence[tuple[Panel, dict[str, Shares]]], layout: Layout, theme: Theme) -> Plot:
    """The figure of one set of images: the panels that have rows, each with its rows."""
    every = [row for _, rows in drawn for row in rows.values()]
    classes = max(map(len, every))
    kept = _hardest(every, classes)
    called = _names([cell for panel, _ in drawn for cell in panel.cells], name, classes)
    words = [_shorten(called[c]) for c in kept]
    wide, high = _size(words, max(len(rows) for _, rows in drawn))
    figure, grid = make_frames(len(drawn), (wide, high), wide=max(1, int(7.5 // wide)))
    scale = ScalarMappable(Normalize(*_range(drawn, kept)), theme.heat)
    for axes, (panel, rows) in zip(grid, drawn, strict=True):
        _rows(axes, rows, kept, words, scale)
        set_title(axes, panel.title, int(13 * wide))
    figure.supxlabel("class of the image", fontsize=8)
    bar = figure.colorbar(scale, ax=grid, label="agreement", aspect=25)
    bar.outline.set_visible(False)
    caption = "Share of a class's test images to which thief and victim give the same label, over all seeds"
    caption += " at the largest budget." if layout.x else "."
    if len(kept) < classes:
        caption += f" The {len(kept)} of {classes} classes on which they agree least."
    return Plot("classes", f"agreement by class{f' on {name}' if name else ''}", caption, figure)


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _size(words: Sequence[str], lines: int) -> tuple[float, float]:
    """The size in inches of a panel with these classes and ``lines`` rows."""
    wide = 0.13 * len(words) + 1.4 if len(words) > MOST_NUMBERS else 0.3 * len(words) + 1.4
    letters = max(map(len, words))
    return wide, 0.2 * lines + 0.55 + (LETTER * letters if letters > UPRIGHT else 0)


def average_per_class(cell: Cell) -> dict[str, Shares]:
    """Agreement ``(classes,)`` on each set of images, over all seeds; NaN for a class without images.

    For an encoder, only the predictions of the headline's head count. A job without predictions is left out.
    """
    counts: dict[str, Counts] = {}
    for job in cell.done:
        try:
            with open_predictions(job.on_disk.folder) as arrays:
                for name, prefix in list_sets(arrays).items():
                    if "/" in name:
                        continue
                    victim, thief, label = load_labels(arrays, prefix)
                    size = int(label.max(initial=-1)) + 1
                    same = np.bincount(label[victim == thief], minlength=size)
                    every = np.bincount(label, minlength=size)
                    counts[name] = _added(counts.get(name), (same, every))
        except StoreError:  # `fmsteal verify` reports it
            continue
    with np.errstate(invalid="ignore"):
        return {name: same / every for name, (same, every) in counts.items() if len(every)}


def _added(some: Counts | None, more: Counts) -> Counts:
    if some is None:
        return more
    size = max(len(some[0]), len(more[0]))
    same, every = ([np.pad(count, (0, size - len(count))) for count in both] for both in zip(some, more, strict=True))
    return same[0] + same[1], every[0] + every[1]


def _of_panel(panel: Panel, layout: Layout) -> dict[str, dict[str, Shares]]:
    rows = {name or "agreement": average_per_class(cell) for name, cell in rank_cells(panel, layout.metric, True)}
    return {name: row for name, row in rows.items() if row}


def _hardest(rows: Sequence[Shares], classes: int) -> npt.NDArray[np.int64]:
    """The classes that are shown, in label order: all, or those with the least agreement."""
    if classes <= MOST:
        return np.arange(classes)
    padded = np.array([np.pad(row, (0, classes - len(row)), constant_values=np.nan) for row in rows])
    told = ~np.isnan(padded)
    mean = np.where(told, padded, 0).sum(0) / np.maximum(told.sum(0), 1)
    mean[~told.any(0)] = np.inf
    return np.sort(np.argsort(mean, kind="stable")[:MOST])


def _names(cells: Sequence[Cell], of: str, classes: int) -> list[str]:
    """The names of all classes in label order, from the table of a job that has one; otherwise their numbers."""
    for job in (job for cell in cells for job in cell.done):
        file = JobFolder(job.on_disk.folder).tables / (f"downstream/{of}" if of else "test") / "per_class.csv"
        try:
            with file.open(newline="", encoding="utf-8") as stream:
                names = [row["class"] for row in csv.DictReader(stream)]
        except (OSError, KeyError, ValueError, csv.Error):
            continue
        if len(names) >= classes:
            return names
    return [str(number) for number in range(classes)]


def _rows(axes: Axes, rows: dict[str, Shares], kept: npt.NDArray[np.int64], words: Sequence[str], scale: Any) -> None:
    values = np.array([[row[c] if c < len(row) else np.nan for c in kept] for row in rows.values()])
    draw(axes, values, scale)
    if len(kept) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                text = f"{value:.2f}".removeprefix("0")
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=6, color=pick_contrast(scale, float(value))
                )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xticks(range(len(kept)), words)
    if len(kept) > MOST_NUMBERS or max(map(len, words)) > UPRIGHT:
        axes.tick_params(axis="x", rotation=90, labelsize=6)


def _range(drawn: Sequence[tuple[Panel, dict[str, Shares]]], kept: npt.NDArray[np.int64]) -> tuple[float, float]:
    values = np.concatenate([row[kept[kept < len(row)]] for _, rows in drawn for row in rows.values()])
    return (float(np.nanmin(values)), float(np.nanmax(values))) if np.isfinite(values).any() else (0.0, 1.0)
