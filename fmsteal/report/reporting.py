"""``fmsteal report``: any sweeps as tables, plots and a page, without a service. Imports no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.errors import FmstealError, StoreError
from fmsteal.report import typeset
from fmsteal.report.headlines import HEADLINE
from fmsteal.report.layout import Layout
from fmsteal.report.study import Study
from fmsteal.report.table import console
from fmsteal.report.tables import Table
from fmsteal.store import explained

if TYPE_CHECKING:
    from fmsteal.report.plots import Plot

FORMATS = ("md", "tex", "png", "pdf", "html")
TEXT = """\
Tables, plots and one self-contained page of sweeps: agreement (or another metric) as mean and 95 % interval over
seeds, against the budget, by victim and thief, under each defense, by class, and what it costs. Which axes are compared
is found from what varies. Cells without a result are shown as such, and counted. It only reads the sweeps, also while
they run."""


def main(words: Sequence[str]) -> None:
    """Write a report of the sweeps named on the command line."""
    parser = argparse.ArgumentParser(
        prog="fmsteal report", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: DIR/report of one sweep)")
    parser.add_argument("--metric", action="append", metavar="NAME", help=f"to report; may be repeated ({HEADLINE})")
    parser.add_argument("--by", metavar="AXIS", help="the axis whose choices are compared")
    parser.add_argument("--facet", metavar="A,B", help="the axes that tell panels apart")
    beside = "one of its choices: the tables in the terminal, Markdown and LaTeX show how the others differ from it"
    parser.add_argument("--baseline", metavar="CHOICE", help=beside)
    parser.add_argument("--formats", default=",".join(FORMATS), help="of %(default)s; none: the terminal alone")
    args = parser.parse_args(words[1:])
    try:
        _report(args)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def _report(args: argparse.Namespace) -> None:
    formats = [] if args.formats == "none" else [word for word in args.formats.split(",") if word]
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise FmstealError(f"--formats: there is no {', '.join(unknown)}. There are: {', '.join(FORMATS)}, and none.")
    if formats and args.out is None and len(args.dirs) > 1:
        raise StoreError("Several sweeps have no folder in common: say where to write, --out FOLDER.")
    study = Study.of(args.dirs)
    facets = None if args.facet is None else [name for name in args.facet.split(",") if name]
    layouts = [Layout.of(study, metric, args.by, facets) for metric in args.metric or [HEADLINE]]
    laid_out = [Table.of(study, layout, args.baseline) for layout in layouts]
    out = console()
    names = ", ".join(folder.absolute().name for folder in args.dirs)
    for table in laid_out:
        out.print(typeset.terminal(table, f"{names}: {len(study.done)} of {len(study.jobs)} jobs"))
    for line in notes(study):
        out.print(line, highlight=False, markup=False)
    if not formats:
        return
    folder = args.out or args.dirs[0] / "report"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = write(study, layouts, laid_out, folder, formats)
    shown = ", ".join(path.name for path in written)
    out.print(f"written to {folder}: {shown}", soft_wrap=True, highlight=False, markup=False)


def notes(study: Study) -> list[str]:
    """What the tables do not tell."""
    found = []
    if not study.done:
        found.append("No job is finished: there are no figures yet.")
    if study.left:
        states = [job.entry.state for job in study.left]
        said = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        found.append(f"without a result: {said} (fmsteal status says more)")
    if study.unplaced:
        found.append(f"in no cell, since nothing tells their axes: {len(study.unplaced)} jobs")
    if study.repeated:
        found.append(f"found in more than one sweep and counted once: {len(study.repeated)} jobs")
    if study.same:
        found.append("in all: " + ", ".join(f"{k}={v}" for k, v in study.same.items() if v != "none"))
    return found


def write(
    study: Study, layouts: Sequence[Layout], laid_out: Sequence[Table], folder: Path, formats: Sequence[str]
) -> list[Path]:
    """Write the report's files: tables and plots of each metric, and the page of the first."""
    written: list[Path] = []
    drawn: list[Plot] | None = None  # of the first metric: for its files, then for the page
    for layout, table in zip(layouts, laid_out, strict=True):
        for kind, text in (("md", typeset.markdown), ("tex", typeset.latex)):
            if kind in formats:
                file = folder / f"{table.stem}.{kind}"
                file.write_text(text(table), encoding="utf-8")
                written.append(file)
        pictures = [kind for kind in formats if kind in ("png", "pdf")]
        if pictures:
            from fmsteal.report import plots

            figures = list(plots.figures(study, layout))
            drawn = figures if drawn is None else drawn
            written += plots.write(figures, folder, pictures)
    if "html" in formats:
        from fmsteal.report import page, plots

        written.append(page.write(study, layouts[0], drawn or plots.figures(study, layouts[0]), folder))
    return written
