"""``fmsteal results``: only reads, and may be called while jobs run. No torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fmsteal.base.shown import make_printable
from fmsteal.report.commands.arguments import end_if_refused, make_parser, require_folder
from fmsteal.report.read import tidy
from fmsteal.report.show import listing
from fmsteal.report.show.table import console

TEXT = """\
One tidy table of sweeps: a row for each job, with its axes, seed, state, metrics, the ends of their 95 % intervals (of
the test images alone) and costs. Without --csv or --parquet it is shown here, cut to the axes that vary and the
headline figures."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Show or write the table of the sweeps' jobs."""
    parser = make_parser("results", TEXT)
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all columns as CSV; - is the standard output")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write all columns as Parquet (needs pyarrow)")
    args = parser.parse_args(words[1:])
    for folder in args.dirs:
        tidy.require_jobs(folder)
    files = [file for file in (args.csv, args.parquet) if file]
    for file in files:
        require_folder(file)
    rows = [row for folder in args.dirs for row in tidy.make_rows(folder)]
    for row in rows:
        if row["state"] == "unreadable":
            print(make_printable(f"fmsteal: {row['folder']}: {row['error']}"), file=sys.stderr)
    if args.csv:
        tidy.write_csv(rows, args.csv)
    if args.parquet:
        tidy.write_parquet(rows, args.parquet)
    if not files:
        listing.show(rows, console())
    elif str(args.csv) != "-":
        print(f"{len(rows)} rows written to {', '.join(map(str, files))}")
