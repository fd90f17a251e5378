"""The role of each axis in tables and plots, found from what varies or named by the user. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Cell, Study

BUDGETS = ("budget", "queries", "budget.queries")
COMPARED = ("attack", "defense", "victim", "thief", "query", "data")  # the first that varies is compared
PANELS = ("data", "victim", "thief", "query", "defense", "attack")  # the order in which the others become panels
APART = ("task", "data", "evaluation", "victim")  # figures of two choices of these are of different things
MOST_PANELS = 9  # in a figure
MOST_PAGES = 6  # figures of a kind


@dataclass(frozen=True)
class Panel:
    """What is drawn into one frame.

    Attributes:
        values: its values on the columns that distinguish panels.
        lines: the cells of each choice of the axis that is compared, queries ascending.
    """

    values: dict[str, str]
    lines: dict[str, list[Cell]]

    @property
    def title(self) -> str:
        """What the panel shows, as ``thief resnet10t, defense none``."""
        return name_values(self.values)

    @property
    def cells(self) -> list[Cell]:
        """All cells of the panel."""
        return [cell for cells in self.lines.values() for cell in cells]


@dataclass(frozen=True)
class Page:
    """What is drawn into one figure: panels that share ``values``."""

    values: dict[str, str]
    panels: list[Panel]


@dataclass(frozen=True)
class Layout:
    """The role of each column.

    Attributes:
        metric: the metric that is shown.
        x: the columns that give the number of queries, if it varies.
        lines: the axis whose choices are compared; None if only the budget varies.
        facets: the columns that distinguish panels, at most two unless named.
        pages: the remaining columns; each combination of their values has figures of its own.
    """

    metric: str = HEADLINE
    x: tuple[str, ...] = ()
    lines: str | None = None
    facets: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, study: Study, metric: str = HEADLINE, lines: str | None = None, facets: Sequence[str] | None = None
    ) -> Layout:
        """Find the roles of the columns that were not named.

        Raises:
            FmstealError: no finished job has the metric, or a named column is not the study's, or is named twice.
        """
        require_metric(study, metric)
        told = tuple(facets or ())
        named = _require_apart(study, lines, told)
        x = tuple(name for name in study.columns if name in BUDGETS and name not in named)
        free = [name for name in study.columns if name not in x and name not in named]
        if lines is None and (lines := _choose_lines(free)) is not None:
            free.remove(lines)
        left = _leave(free, study, lines, [*x, *([lines] if lines else []), *told])
        panels = left[:2] if facets is None else told
        return cls(metric, x, lines, tuple(panels), tuple(name for name in left if name not in panels))

    @property
    def judged(self) -> bool:
        """Whether the compared choices have figures of the same thing, so that one can be better than another."""
        return self.lines is not None and self.lines not in APART

    def split(self, study: Study) -> list[Page]:
        """All cells of the study, by page, panel and line."""
        found: dict[tuple[str, ...], dict[tuple[str, ...], dict[str, list[Cell]]]] = {}
        for cell in study.cells:
            page = found.setdefault(tuple(cell.values[c] for c in self.pages), {})
            panel = page.setdefault(tuple(cell.values[c] for c in self.facets), {})
            panel.setdefault(cell.values[self.lines] if self.lines else "", []).append(cell)

        def ordered(lines: dict[str, list[Cell]]) -> dict[str, list[Cell]]:
            return {name: sorted(cells, key=lambda cell: cell.queries or 0) for name, cells in lines.items()}

        return [
            Page(
                dict(zip(self.pages, page, strict=True)),
                [Panel(dict(zip(self.facets, panel, strict=True)), ordered(lines)) for panel, lines in panels.items()],
            )
            for page, panels in found.items()
        ]

    def figures(self, study: Study) -> tuple[list[Page], str]:
        """The pages as readable figures, few and with few panels each, and a note of what was left out."""
        pages = [
            Page(page.values, page.panels[start : start + MOST_PANELS])
            for page in self.split(study)
            for start in range(0, len(page.panels), MOST_PANELS)
        ]
        return pages[:MOST_PAGES], describe_left_out(len(pages), self)


def describe_left_out(figures: int, layout: Layout) -> str:
    """A note of how many figures are drawn, and how to draw others; "" if all are."""
    if figures <= MOST_PAGES:
        return ""
    varies = ", ".join(name for name in (layout.lines, *layout.facets, *layout.pages) if name)
    return (
        f"{MOST_PAGES} of {figures} figures are drawn. Name the axis to compare and those that tell panels "
        f"apart, --by AXIS --facet A,B, of {varies}; the tables hold all cells."
    )


def require_metric(study: Study, metric: str) -> str:
    """Return a metric, or refuse it.

    Raises:
        FmstealError: no finished job has the metric.
    """
    if metric in study.metrics or not study.done:
        return metric
    raise FmstealError(f"No finished job measured {metric}. There is: {', '.join(study.metrics)}.")


def name_values(values: dict[str, str]) -> str:
    """Values with their columns' names, as ``thief resnet10t, defense none``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _require_apart(study: Study, lines: str | None, facets: Sequence[str]) -> list[str]:
    """The columns that were named, each of them in the study and named for one role."""
    named = [*([lines] if lines else []), *facets]
    for name in named:
        study.require_column(name)
    if lines in facets:
        raise FmstealError(f"{lines} cannot be compared within panels that it tells apart: name another --facet.")
    return named


def _choose_lines(free: Sequence[str]) -> str | None:
    """The column that is compared if none was named: the first of `COMPARED`, else the first column."""
    return next((name for name in COMPARED if name in free), free[0] if free else None)


def _leave(columns: Sequence[str], study: Study, lines: str | None, taken: Sequence[str]) -> list[str]:
    """The columns, in the order of panels, that do not follow from those taken before them."""
    left: list[str] = []
    for name in sorted(columns, key=_place):
        others = [by for by in (*taken, *left) if by != lines or name not in APART]
        if not any(_follows(study, name, by) for by in others):
            left.append(name)
    return left


def _place(name: str) -> int:
    return PANELS.index(name) if name in PANELS else len(PANELS)


def _follows(study: Study, column: str, other: str) -> bool:
    """Whether the value of ``column`` follows from that of ``other``."""
    pairs = {(cell.values[other], cell.values[column]) for cell in study.cells}
    return len(pairs) == len({value for value, _ in pairs})
