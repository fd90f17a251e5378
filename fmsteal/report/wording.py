"""How figures are called and written, wherever they are shown."""

from __future__ import annotations

from fmsteal.report.study import Cell, Figure
from fmsteal.results import FAILED, KILLED, MISSING, RUNNING, UNREADABLE

LABELS = {
    "test/agreement": "agreement with the victim",
    "test/accuracy": "thief's accuracy",
    "test/victim_accuracy": "victim's accuracy",
    "test/relative_accuracy": "thief's accuracy / victim's",
    "test/kl": "KL(victim || thief), nats",
    "test/l1": "L1 distance of probabilities",
    "test/target_accuracy": "target's downstream accuracy",
    "test/stolen_accuracy": "stolen encoder's downstream accuracy",
    "test/ratio": "stolen encoder's accuracy / target's",
    "test/cosine": "cosine of embeddings",
    "cost/queries": "queries",
    "cost/usd": "cost (USD)",
    "cost/seconds": "wall time (s)",
    "cost/victim_forwards": "victim's forward passes",
}
LOW_IS_CLOSE = ("/kl", "/l1", "/l2")  # metrics whose least is the best
SAID = {FAILED: "failed", KILLED: "cut off", RUNNING: "under way", MISSING: "missing", UNREADABLE: "unreadable"}


def label(metric: str) -> str:
    """A metric in words, for axes and headings."""
    return LABELS.get(metric, metric.removeprefix("test/").replace("_", " "))


def least_is_best(metric: str) -> bool:
    """Whether less of a metric is more of a theft: distances, and what an attacker spends."""
    return metric.endswith(LOW_IS_CLOSE) or metric.startswith("cost/")


def number(value: float, metric: str) -> str:
    """A value of a metric: three decimals of a share, whole queries."""
    if metric in ("cost/queries", "cost/victim_forwards"):
        return f"{value:,.0f}"
    if metric.startswith("cost/"):
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return f"{value:.3f}"


def missing(cell: Cell) -> str:
    """What became of a cell without a figure, as ``failed`` or ``2 failed, 1 missing``."""
    states = [SAID.get(job.entry.state, "not measured") for job in cell.jobs]
    kinds = list(dict.fromkeys(states))
    return kinds[0] if len(kinds) == 1 else ", ".join(f"{states.count(kind)} {kind}" for kind in kinds)


def seeds(figure: Figure) -> str:
    """How many seeds are in a figure, as ``3`` or ``2 of 3``."""
    return str(figure.n) if figure.whole else f"{figure.n} of {figure.of}"
