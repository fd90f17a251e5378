"""A study's table for the terminal, Markdown and LaTeX. Imports no torch."""

from __future__ import annotations

import re

from rich.table import Table as RichTable
from rich.text import Text

from fmsteal.report.read.difference import Difference
from fmsteal.report.show.tables import CellSummary, Table
from fmsteal.report.show.wording import format_number, format_seeds, format_spread

LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
MINUS = re.compile(r"(?<![\w.-])-(?=\d)")  # a number's sign, not a hyphen


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    head = [*table.keys, *table.columns]
    lines = ["| " + " | ".join(escape_markdown(name) for name in head) + " |"]
    lines.append("|" + "---|" * len(table.keys) + "---:|" * len(table.columns))
    for (values, row), texts in zip(table.rows, _texts(table), strict=True):
        bold = [f"**{text}**" if entry.bold else text for text, entry in zip(texts, row, strict=True)]
        lines.append("| " + " | ".join([*(escape_markdown(v) for v in values), *bold]) + " |")
    return "\n".join([*lines, "", *table.notes, ""])


def latex(table: Table, name: str = "") -> str:
    r"""The table in LaTeX, with caption and label: ``\input`` it; it needs the package booktabs.

    Args:
        table: the table.
        name: the sweeps' name, for the label ``\ref{tab:<name>}``; the metric's follows it if it is not the headline.
    """
    label = "-".join(filter(None, (name, table.stem.removeprefix("table").strip("-")))) or "fmsteal"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[tbp]",
        r"\centering",
        rf"\caption{{{_math(escape_latex(' '.join(table.notes)))}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9.-]', '-', label)}}}",
        r"\begin{tabular}{" + "l" * len(table.keys) + "r" * len(table.columns) + "}",
        r"\toprule",
        " & ".join(escape_latex(name) for name in (*table.keys, *table.columns)) + r" \\",
        r"\midrule",
    ]
    for (values, row), said in zip(table.rows, _texts(table), strict=True):
        texts = [_math(escape_latex(text)) for text in said]
        bold = [rf"\textbf{{{text}}}" if entry.bold else text for text, entry in zip(texts, row, strict=True)]
        lines.append(" & ".join([*map(escape_latex, values), *bold]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def terminal(table: Table, title: str) -> RichTable:
    """The table for the terminal."""
    shown = RichTable(title=title, title_justify="left", caption=Text(" ".join(table.notes)), caption_justify="left")
    for name in table.keys:
        shown.add_column(name, no_wrap=True)
    for name in table.columns:
        shown.add_column(name, justify="right")
    for (values, row), texts in zip(table.rows, _texts(table), strict=True):
        bold = ["bold" if entry.bold else "" for entry in row]
        shown.add_row(*values, *map(Text, texts, bold))
    return shown


def _texts(table: Table) -> list[list[str]]:
    """The text of each entry, with its number of seeds if these differ between cells."""
    several = len({(e.figure.n, e.figure.whole) for e in table.entries if e.figure}) > 1
    return [[_text(entry, table.metric, several) for entry in row] for _, row in table.rows]


def _text(entry: CellSummary, metric: str, several: bool) -> str:
    if entry.figure is None:
        return entry.absent
    text = f"{format_number(entry.figure.mean, metric)} {format_spread(entry.figure, metric)}".rstrip()
    if several or not entry.figure.whole:
        text += f" ({format_seeds(entry.figure)})"
    if entry.difference:
        value = entry.difference.value
        signed = f"{'-' if value < 0 else '+'}{format_number(abs(value), metric)}"
        text += f" [{signed}{_spread(entry.difference, metric)}]"
    return text


def _spread(difference: Difference, metric: str) -> str:
    if difference.half is not None:
        return f" ± {format_number(difference.half, metric)}"
    if difference.interval is None:
        return ""
    return " ({} to {})".format(
        *(f"{'-' if e < 0 else '+'}{format_number(abs(e), metric)}" for e in difference.interval)
    )


def escape_markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def _math(text: str) -> str:
    """Set the signs of numbers in LaTeX's math mode."""
    return MINUS.sub("$-$", text).replace("±", r"$\pm$")


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in text)
