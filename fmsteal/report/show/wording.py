"""How figures and states are written, wherever they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fmsteal.records.results import FAILED, KILLED, MISSING, RUNNING, UNREADABLE
from fmsteal.report.read.interval import BOTH, FEWEST, IMAGES, SEEDS
from fmsteal.report.read.study import Cell, Figure

HOW = {
    BOTH: f"{BOTH}, on the logit scale",
    SEEDS: f"{SEEDS} alone (Student's t)",
    IMAGES: f"{IMAGES} alone, as all seeds say the same (Wilson's interval)",
}
SAID = {FAILED: "failed", KILLED: "cut off", RUNNING: "under way", MISSING: "missing", UNREADABLE: "unreadable"}


def format_number(value: float, metric: str) -> str:
    """A metric's value as text: counts are whole, costs below 100 have two decimals, all else three."""
    if metric in ("cost/queries", "cost/victim_forwards"):
        return f"{value:,.0f}"
    if metric.startswith("cost/"):
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return f"{value:.3f}"


def describe_missing(cell: Cell) -> str:
    """Why a cell has no figure, as ``failed`` or ``2 failed, 1 missing``."""
    states = [SAID.get(job.on_disk.state, "not measured") for job in cell.jobs]
    kinds = list(dict.fromkeys(states))
    return kinds[0] if len(kinds) == 1 else ", ".join(f"{states.count(kind)} {kind}" for kind in kinds)


def format_seeds(figure: Figure) -> str:
    """The number of seeds in a figure, as ``3`` or ``2 of 3``."""
    return str(figure.n) if figure.whole else f"{figure.n} of {figure.of}"


def format_spread(figure: Figure, metric: str) -> str:
    """The spread to print after a mean: half its interval, both its ends, or its two seeds."""
    if figure.half is not None:
        return f"± {format_number(figure.half, metric)}"
    if figure.interval is not None:  # not symmetric: on the logit scale, or cut at a bound
        return f"({format_number(figure.interval[0], metric)} to {format_number(figure.interval[1], metric)})"
    return (
        f"({' and '.join(format_number(value, metric) for value in figure.points)})" if len(figure.points) == 2 else ""
    )


def format_interval(figure: Figure, metric: str) -> str:
    """The interval as text, or why there is none."""
    if figure.interval is not None:
        return f"{format_number(figure.interval[0], metric)} to {format_number(figure.interval[1], metric)}"
    if figure.n >= FEWEST:
        return f"{figure.n} seeds, all alike"
    return (
        "one seed"
        if figure.n == 1
        else f"two seeds: {', '.join(format_number(value, metric) for value in figure.points)}"
    )


def describe_without_interval(figures: Sequence[Figure]) -> list[str]:
    """How many figures of several seeds have no interval, and why."""
    two, alike = sum(f.n == 2 for f in figures), sum(f.n >= FEWEST and f.interval is None for f in figures)
    counts = {
        "have two seeds: both figures stand in brackets, in place of an interval": two,
        "have the same figure for every seed, which says nothing of how far it is off: no interval": alike,
    }
    return [f"{count} of {len(figures)} cells {what}." for what, count in counts.items() if count]


def describe_cover(figures: Iterable[Figure | None]) -> str:
    """What the intervals of figures cover, as ``seeds and test images``; "" if none has an interval."""
    kinds = Counter(figure.covers for figure in figures if figure and figure.covers)
    return next(iter(kinds), "") if len(kinds) < 2 else ", or ".join(f"{kind} ({kinds[kind]})" for kind in kinds)


def describe_coverage(figures: Iterable[Figure | None], cells: Sequence[Cell] = ()) -> list[str]:
    """What the intervals of figures cover, and what they leave out since all seeds of a cell share it."""
    kinds = Counter(figure.covers for figure in figures if figure and figure.covers)
    if not kinds:
        return []
    if len(kinds) == 1:
        said = [f"95 % intervals cover {HOW[kind]}." for kind in kinds]
    else:
        each = ", ".join(f"{count} {'covers' if count == 1 else 'cover'} {HOW[kind]}" for kind, count in kinds.items())
        said = [f"Of {kinds.total()} 95 % intervals, {each}."]
    fixed = _find_fixed(cells)
    if fixed:
        said.append(f"They leave out {' and '.join(fixed)}: one for all seeds (vary=all varies them).")
    return said


def _find_fixed(cells: Sequence[Cell]) -> list[str]:
    """What all seeds of a cell share, if every job records what its seed varies."""
    known = {job.varies for cell in cells if len(cell.done) > 1 for job in cell.done}
    if None in known or not known:
        return []
    varied = frozenset.intersection(*(names for names in known if names is not None))
    return [words for name, words in (("data", "the data split"), ("query", "the pool")) if name not in varied]
