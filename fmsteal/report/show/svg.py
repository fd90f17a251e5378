"""A plot as an SVG element of a page: its text stays text, its colours follow the page's light and dark modes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from fmsteal.report.show.plots import Theme, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def to_inline(figure: Figure, name: str, theme: Theme) -> str:
    """The figure as ``<svg>`` without a background. Black, which Matplotlib leaves out, stays black.

    Args:
        figure: a figure drawn with the theme.
        name: the figure's name; its ids begin with it, to be unique in the page.
        theme: its colours become the page's ``--ink``, ``--rule``, ``--series-0`` and so on.
    """
    inks = {theme.ink: "var(--ink)", theme.grid: "var(--rule)"}
    inks |= {colour: f"var(--series-{n})" for n, colour in enumerate(theme.series)}
    text = to_svg(figure, replace(theme, paper="none"))
    text = re.sub(r"<(style|metadata)[^>]*>.*?</\1>", "", text, flags=re.DOTALL)  # styles would apply to the whole page
    head, end, body = text.strip().partition(">")
    head = re.sub(r'\s(width|height|xmlns(:xlink)?|version)="[^"]*"', "", head)

    def adapted(tag: re.Match[str]) -> str:
        code = tag[0].replace('id="', f'id="{name}-').replace('xlink:href="#', f'href="#{name}-')
        code = code.replace("url(#", f"url(#{name}-")
        code = re.sub(r"font-family:[^;\"]*", "font-family: var(--sans)", code)
        code = re.sub(r"(font:[^;\"]*?[\d.]+px )[^;\"]*", r"\1var(--sans)", code)
        return re.sub(r"#[0-9a-f]{6}\b", lambda found: inks.get(found[0], found[0]), code)

    return head + end + re.sub(r"<[^>]*>", adapted, body)  # tags only: the text of labels is kept
