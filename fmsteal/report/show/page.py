"""``report.html``: a study on one page that needs no network, for the screen, the phone and the printer.

The template is ``page.html``, the style ``page.css``, sorting and filtering ``page.js``; without JavaScript everything
is shown, unfolded. The template escapes whatever comes from results.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from pathlib import Path

from fmsteal import __version__
from fmsteal.report.read.progress import format_duration
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page_content import PageContent
from fmsteal.report.show.plots import PAPER, Plot, Theme
from fmsteal.report.show.svg import to_inline
from fmsteal.report.show.wording import format_number, format_spread

NAME = "report.html"


def write(study: Study, layout: Layout, plots: Iterable[Plot], folder: Path, theme: Theme = PAPER) -> Path:
    """Write the page into a folder, and return its path. Its links are relative: it can be moved with the sweeps.

    ``plots`` must be drawn with ``theme``, whose colours are replaced by the page's own, light or dark.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = render(study, layout, plots, folder, theme)
    fresh = folder / f".{NAME}.{os.getpid()}.tmp"
    fresh.write_bytes(text.encode("utf-8", "replace"))  # file names may contain bytes that are not text
    return fresh.replace(folder / NAME)


def render(study: Study, layout: Layout, plots: Iterable[Plot], folder: Path, theme: Theme = PAPER) -> str:
    """The HTML of the page, with links relative to ``folder``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    env = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {"breakable": _breakable, "duration": format_duration, "moment": _moment, "number": _number}
    script, style = ((here / name).read_text() for name in ("page.js", "page.css"))
    return env.get_template("page.html").render(
        study=study,
        content=PageContent(study, layout, folder),
        plots=[(plot, Markup(to_inline(plot.figure, f"f{n}", theme))) for n, plot in enumerate(plots, 1)],
        number_table=count(1).__next__,
        spread=format_spread,
        script=Markup(script),
        style=Markup(style),
        allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),  # no other script runs
        made=datetime.now().astimezone(),
        version=__version__,
    )


def _breakable(name: str) -> str:
    """A name that may be broken after ``_``, ``-``, ``.`` and ``/``."""
    from markupsafe import Markup, escape

    text = str(escape(name))
    for joint in "_-./":
        text = text.replace(joint, f"{joint}<wbr>")
    return Markup(text)


def _number(value: float, metric: str) -> str:
    """A metric's value as text; seconds are whole, so that a column does not mix decimals."""
    return f"{value:,.0f}" if metric == "cost/seconds" else format_number(value, metric)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M %Z}"
