"""A table of a study for the terminal, in Markdown, in LaTeX. Imports no torch."""

from __future__ import annotations

import re

from rich.table import Table as RichTable
from rich.text import Text

from fmsteal.report.tables import Entry, Table
from fmsteal.report.wording import number, seeds

LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
MINUS = re.compile(r"(?<![\w.-])-(?=\d)")  # of a number, not a hyphen


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    head = [*table.keys, *table.columns]
    lines = ["| " + " | ".join(_md(name) for name in head) + " |"]
    lines.append("|" + "---|" * len(table.keys) + "---:|" * len(table.columns))
    for (values, row), texts in zip(table.rows, _texts(table), strict=True):
        bold = [f"**{text}**" if entry.bold else text for text, entry in zip(texts, row, strict=True)]
        lines.append("| " + " | ".join([*(_md(v) for v in values), *bold]) + " |")
    return "\n".join([*lines, "", *table.notes, ""])


def latex(table: Table) -> str:
    r"""The table in LaTeX: ``\input`` it; it needs the package booktabs."""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * len(table.keys) + "r" * len(table.columns) + "}",
        r"\toprule",
        " & ".join(_tex(name) for name in (*table.keys, *table.columns)) + r" \\",
        r"\midrule",
    ]
    for (values, row), said in zip(table.rows, _texts(table), strict=True):
        texts = [MINUS.sub("$-$", _tex(text)).replace("±", r"$\pm$") for text in said]
        bold = [rf"\textbf{{{text}}}" if entry.bold else text for text, entry in zip(texts, row, strict=True)]
        lines.append(" & ".join([*map(_tex, values), *bold]) + r" \\")
    notes = [f"% {line}" for line in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


def terminal(table: Table, title: str) -> RichTable:
    """The table for the terminal."""
    shown = RichTable(title=title, title_justify="left", caption=Text(" ".join(table.notes)), caption_justify="left")
    for name in table.keys:
        shown.add_column(name, overflow="fold")
    for name in table.columns:
        shown.add_column(name, justify="right")
    for (values, row), texts in zip(table.rows, _texts(table), strict=True):
        bold = ["bold" if entry.bold else "" for entry in row]
        shown.add_row(*values, *map(Text, texts, bold))
    return shown


def _texts(table: Table) -> list[list[str]]:
    """What each entry says; its number of seeds where those differ between cells."""
    several = len({(e.figure.n, e.figure.whole) for e in table.entries if e.figure}) > 1
    return [[_text(entry, table.metric, several) for entry in row] for _, row in table.rows]


def _text(entry: Entry, metric: str, several: bool) -> str:
    if entry.figure is None:
        return entry.absent
    text = _with_half(number(entry.figure.mean, metric), entry.figure.half, metric)
    if several or not entry.figure.whole:
        text += f" ({seeds(entry.figure)})"
    if entry.difference:
        value = entry.difference.value
        signed = f"{'-' if value < 0 else '+'}{number(abs(value), metric)}"
        text += f" [{_with_half(signed, entry.difference.half, metric)}]"
    return text


def _with_half(value: str, half: float | None, metric: str) -> str:
    return value if half is None else f"{value} ± {number(half, metric)}"


def _md(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def _tex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
