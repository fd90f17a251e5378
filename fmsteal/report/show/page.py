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
from typing import TYPE_CHECKING

from fmsteal import __version__
from fmsteal.report.read.progress import format_duration
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page_content import PageContent
from fmsteal.report.show.plots import PAPER, Plot, Theme
from fmsteal.report.show.svg import to_inline
from fmsteal.report.show.wording import format_number, format_spread

if TYPE_CHECKING:
    from jinja2 import Environment

NAME = "report.html"
HERE = Path(__file__).parent


def write(study: Study, layout: Layout, plots: Iterable[Plot], folder: Path, theme: Theme = PAPER) -> Path:
    """Write the page into a folder, and return its path. Its links are relative: it can be moved with the sweeps.

    ``plots`` must be drawn with ``theme``, whose colours are replaced by the page's own, light or dark.
    """
    return write_html(render(study, layout, plots, folder, theme), folder / NAME)


def render(study: Study, layout: Layout, plots: Iterable[Plot], folder: Path, theme: Theme = PAPER) -> str:
    """The HTML of the page, with links relative to ``folder``."""
    from markupsafe import Markup

    script = (HERE / "page.js").read_text()
    return (
        make_environment(HERE)
        .get_template("page.html")
        .render(
            study=study,
            content=PageContent(study, layout, folder),
            plots=[(plot, Markup(to_inline(plot.figure, f"f{n}", theme))) for n, plot in enumerate(plots, 1)],
            number_table=count(1).__next__,
            spread=format_spread,
            script=Markup(script),
            style=Markup(read_style()),
            allowed=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),  # no other script runs
            made=datetime.now().astimezone(),
            version=__version__,
        )
    )


def write_html(text: str, file: Path) -> Path:
    """Write a page, completely or not at all, and return its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    fresh.write_bytes(text.encode("utf-8", "replace"))  # file names may contain bytes that are not text
    return fresh.replace(file)


def make_environment(templates: Path) -> Environment:
    """What the pages' templates are rendered by: it escapes everything, and refuses names that are not given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"breakable": _breakable, "duration": format_duration, "moment": _moment, "number": _number}
    return env


def read_style() -> str:
    """The pages' style."""
    return (HERE / "page.css").read_text()


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
