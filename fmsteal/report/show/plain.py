"""A table of texts for the terminal, Markdown and LaTeX. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from fmsteal.report.show.typeset import escape_latex, escape_markdown


@dataclass(frozen=True)
class Plain:
    """A table whose entries are texts already.

    Attributes:
        name: its files' name.
        title: a title of one line.
        keys: the columns on the left, which distinguish the rows.
        columns: the other columns, on the right.
        rows: the texts of each row.
        notes: what a reader must know.
    """

    name: str
    title: str
    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]

    def terminal(self) -> RichTable:
        """The table for the terminal."""
        caption = Text(" ".join(self.notes))
        shown = RichTable(title=Text(self.title), title_justify="left", caption=caption, caption_justify="left")
        for name in self.keys:
            shown.add_column(Text(name), overflow="fold")
        for name in self.columns:
            shown.add_column(Text(name), justify="right", overflow="fold")
        for row in self.rows:
            shown.add_row(*map(Text, row))
        return shown

    def markdown(self) -> str:
        """The table in Markdown, its notes below."""
        lines = ["| " + " | ".join(escape_markdown(name) for name in (*self.keys, *self.columns)) + " |"]
        lines.append("|" + "---|" * len(self.keys) + "---:|" * len(self.columns))
        lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in self.rows]
        return "\n".join([*lines, "", *self.notes, ""])

    def latex(self) -> str:
        r"""The table in LaTeX: ``\input`` it; it needs the package booktabs."""
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{tabular}{" + "l" * len(self.keys) + "r" * len(self.columns) + "}",
            r"\toprule",
            " & ".join(map(escape_latex, (*self.keys, *self.columns))) + r" \\",
            r"\midrule",
            *(" & ".join(escape_latex(text).replace("±", r"$\pm$") for text in row) + r" \\" for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {line}" for line in self.notes),
        ]
        return "\n".join([*lines, ""])

    def write(self, folder: Path, formats: Sequence[str]) -> list[Path]:
        """Write the table into a folder as Markdown and LaTeX, if these are among the formats."""
        written = []
        for kind, text in (("md", self.markdown), ("tex", self.latex)):
            if kind in formats:
                file = folder / f"{self.name}.{kind}"
                file.write_text(text(), encoding="utf-8")
                written.append(file)
        return written
