"""``fmsteal report``: sweeps as tables, plots and a page, without any service. Imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.base.store import explain_errors
from fmsteal.report.commands.arguments import end_if_refused, make_parser
from fmsteal.report.read.headlines import BESIDE, HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.show import typeset
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.multiplicity import tabulate_multiplicity
from fmsteal.report.show.plain import Plain
from fmsteal.report.show.published import PublishedComparison
from fmsteal.report.show.table import console
from fmsteal.report.show.tables import Table
from fmsteal.report.show.variance import tabulate_variance
from fmsteal.report.show.whole import print_whole
from fmsteal.report.show.worst_case import NAIVE, tabulate_worst_cases

if TYPE_CHECKING:
    from fmsteal.report.show.plots import Plot

FORMATS = ("md", "tex", "png", "pdf", "html")
TEXT = """\
Tables, plots and one self-contained page of sweeps: agreement (or another metric) as mean and 95 % interval over
seeds, against the budget, by victim and thief, under each defense, by class, and what it costs. Which axes are compared
is found from what varies. Cells without a result are shown as such, and counted. It only reads the sweeps, also while
they run."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Write a report of the sweeps named on the command line."""
    parser = make_parser("report", TEXT)
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: DIR/report of one sweep)")
    parser.add_argument("--metric", action="append", metavar="NAME", help=f"to report; may be repeated ({HEADLINE})")
    parser.add_argument("--by", metavar="AXIS", help="the axis whose choices are compared")
    parser.add_argument("--facet", metavar="A,B", help="the axes that tell panels apart")
    beside = "one of its choices: the tables in the terminal, Markdown and LaTeX show how the others differ from it"
    parser.add_argument("--baseline", metavar="CHOICE", help=beside)
    printed = "what a paper printed beside ours: fm_stealing, fm_stealing_selection, or a CSV file of your own"
    parser.add_argument("--published", metavar="NAME", help=printed)
    crossed = (
        "where the variance comes from: victim, pool, thief; of sweeps that cross victim.seed, query.seed and seed"
    )
    parser.add_argument("--variance", action="store_true", help=crossed)
    strongest = (
        "each defense against the strongest attacker that was tried, beside the naive one (NAIVE, an attack; "
        f"{NAIVE}), and what it costs honest users"
    )
    parser.add_argument("--worst-case", metavar="NAIVE", nargs="?", const=NAIVE, help=strongest)
    parser.add_argument("--formats", default=",".join(FORMATS), help="of %(default)s; none: the terminal alone")
    args = parser.parse_args(words[1:])
    _report(args)


def _report(args: argparse.Namespace) -> None:
    formats = _parse_formats(args)
    study = Study.of(args.dirs)
    facets = None if args.facet is None else [name for name in args.facet.split(",") if name]
    layouts = [Layout.of(study, metric, args.by, facets) for metric in choose_metrics(study, args.metric)]
    laid_out = [Table.of(study, layout, args.baseline) for layout in layouts]
    beside = None if args.published is None else PublishedComparison.of(study, args.published)
    thieves, why = tabulate_multiplicity(study)
    further = [thieves] if thieves is not None else []
    further += [tabulate_variance(study, layout.metric) for layout in layouts[:1] if args.variance]
    further += [tabulate_worst_cases(study, args.worst_case)] if args.worst_case else []
    _show(args, study, laid_out, beside, further, () if thieves is not None else why)
    if formats:
        others = further if beside is None else [beside.table(), *further]
        _write_files(args.out or args.dirs[0] / "report", study, layouts, laid_out, others, formats)


def _show(
    args: argparse.Namespace,
    study: Study,
    tables: Sequence[Table],
    beside: PublishedComparison | None,
    further: Sequence[Plain],
    remarks: Sequence[str],
) -> None:
    """Print the tables, the comparison with a paper, and what a reader must know besides."""
    out = console()
    names = ", ".join(folder.absolute().name for folder in args.dirs)
    for table in tables:
        print_whole(typeset.terminal(table, f"{names}: {len(study.done)} of {len(study.jobs)} jobs"), out)
    if beside is not None:
        out.print(beside.table().terminal() if beside.rows else " ".join(beside.notes), highlight=False)
    for each in further:
        print_whole(each.terminal(), out)
    for line in (*list_notes(study), *remarks):
        out.print(line, highlight=False, markup=False)


def _write_files(
    folder: Path,
    study: Study,
    layouts: Sequence[Layout],
    laid_out: Sequence[Table],
    others: Sequence[Plain],
    formats: Sequence[str],
) -> None:
    """Write the report into a folder, with further tables; print what was written."""
    with explain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = write(study, layouts, laid_out, folder, formats)
        written += [file for each in others for file in each.write(folder, formats)]
    shown = ", ".join(path.name for path in written)
    console().print(f"written to {folder}: {shown}", soft_wrap=True, highlight=False, markup=False)


def _parse_formats(args: argparse.Namespace) -> list[str]:
    """The formats to write; empty for the terminal alone.

    Raises:
        FmstealError: a format is not known, or there is no folder to write into.
    """
    formats = [] if args.formats == "none" else [word for word in args.formats.split(",") if word]
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise FmstealError(f"--formats: there is no {', '.join(unknown)}. There are: {', '.join(FORMATS)}, and none.")
    if formats and args.out is None and len(args.dirs) > 1:
        raise StoreError("Several sweeps have no folder in common: say where to write, --out FOLDER.")
    return formats


def choose_metrics(study: Study, named: Sequence[str] | None) -> list[str]:
    """The metrics to report: those named, or the headline and, for encoders, SA/TA; and those that go with them."""
    chosen = list(named or [HEADLINE, *(metric for metric in BESIDE if metric in study.metrics)])
    beside = [other for metric in chosen for other in BESIDE.get(metric, ()) if other in study.metrics]
    return list(dict.fromkeys([*chosen, *beside]))


def list_notes(study: Study) -> list[str]:
    """What the tables do not show."""
    found = []
    if not study.done:
        found.append("No job is finished: there are no figures yet.")
    if study.left:
        states = [job.on_disk.state for job in study.left]
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
    """Write the report's files: the tables and plots of each metric, and the page of the first metric."""
    written: list[Path] = []
    drawn: list[Plot] | None = None  # the first metric's plots, for its files and then for the page
    for layout, table in zip(layouts, laid_out, strict=True):
        name = "-".join(dict.fromkeys(sweep.absolute().name for sweep in study.folders))
        for kind, text in (("md", typeset.markdown(table)), ("tex", typeset.latex(table, name))):
            if kind in formats:
                file = folder / f"{table.stem}.{kind}"
                file.write_text(text, encoding="utf-8")
                written.append(file)
        pictures = [kind for kind in formats if kind in ("png", "pdf")]
        if pictures:
            from fmsteal.report.show import plots

            figures = list(plots.draw_figures(study, layout))
            drawn = figures if drawn is None else drawn
            written += plots.write(figures, folder, pictures)
    if "html" in formats:
        from fmsteal.report.show import page, plots

        written.append(page.write(study, layouts[0], drawn or plots.draw_figures(study, layouts[0]), folder))
    return written
