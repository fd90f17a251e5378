"""``audit.html``: an audit on one page that needs no network, for the screen and the printer.

Its look is that of ``report.html``. The template escapes whatever comes from results.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.audit.document import Document
from fmsteal.audit.evidence import TriedTheft
from fmsteal.audit.shelf import UNDEFENDED
from fmsteal.audit.verdict import GRADES, count, dollars, percent
from fmsteal.records.folders import AuditFolder
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page import make_environment, read_style, write_html

if TYPE_CHECKING:
    from fmsteal.report.show.plots import Plot

HERE = Path(__file__).parent
HONEST = {  # the figures of an honest user that the page shows, and their headings
    "accuracy": "accuracy",
    "victim_accuracy": "without it",
    "label_kept": "same label",
    "l1": "L1 off",
    "downstream_accuracy": "downstream accuracy",
    "target_accuracy": "without it",
    "cosine": "cosine",
    "false_alarms": "false alarms",
    "refused": "refused",
    "ms_per_query": "ms a query",
}
SHARES = {
    "accuracy",
    "victim_accuracy",
    "label_kept",
    "downstream_accuracy",
    "target_accuracy",
    "false_alarms",
    "refused",
}


def write_page(document: Document, thefts: Sequence[TriedTheft], folder: AuditFolder) -> Path:
    """Write the page of an audit, and return its path. Links are relative: it can be moved with its sweep."""
    return write_html(render(document, draw_curves(thefts)), folder.page)


def render(document: Document, plots: Sequence[Plot] = ()) -> str:
    """The HTML of an audit, whose links are relative to a folder in the sweep's."""
    from markupsafe import Markup

    from fmsteal.report.show.plots import PAPER
    from fmsteal.report.show.svg import to_inline

    env = make_environment(HERE)
    env.filters |= {"percent": percent, "count": count, "dollars": dollars, "honest": _spell_honest}
    honest = [name for name in HONEST if any(name in guard["honest"] for guard in document["defenses"])]
    return env.get_template("page.html").render(
        audit=document,
        verdict=document["verdict"],
        grade=GRADES.index(document["verdict"]["grade"]),
        undefended=UNDEFENDED,
        honest={name: HONEST[name] for name in honest},
        flags=sorted({name for guard in document["defenses"] for name in guard["flagged"]}),
        plots=[(plot, Markup(to_inline(plot.figure, f"f{n}", PAPER))) for n, plot in enumerate(plots, 1)],
        style=Markup(read_style() + (HERE / "page.css").read_text()),
        made=datetime.fromisoformat(document["made"]),
    )


def draw_curves(thefts: Sequence[TriedTheft]) -> list[Plot]:
    """Agreement against the budget, by attacker, a panel for each defense; none without two budgets."""
    import matplotlib as mpl

    from fmsteal.report.show.plots import PAPER, budget

    done = [theft.job.on_disk for theft in thefts if theft.budget and theft.job.figure(HEADLINE) is not None]
    if len({theft.budget for theft in thefts if theft.budget}) < 2 or not done:
        return []
    study = Study.of_results([job.result for job in done if job.result is not None], done[0].folder.parent)
    lines = "attack" if "attack" in study.columns else None
    layout = Layout.of(study, HEADLINE, lines, ["defense"] if "defense" in study.columns else [])
    with mpl.rc_context(PAPER.rc()):
        return list(budget.plots(study, layout, PAPER))


def _spell_honest(value: float | None, name: str) -> str:
    """An honest user's figure as text."""
    if value is None:
        return "-"
    return percent(value) if name in SHARES else f"{value:.2f}"
