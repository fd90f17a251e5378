"""``fmsteal status``: only reads, and may be called while jobs run. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fmsteal.report.commands.arguments import end_if_refused, make_parser
from fmsteal.report.read import tidy
from fmsteal.report.show import screen
from fmsteal.report.show.table import console

TEXT = """\
How far a sweep is: which jobs are done, under way (stage, progress, time left), failed (error, log), cut off, or not
begun yet, and the one command that does what is left. It only reads, and can be asked at any time from any host that
sees the folder. Of jobs that were left in Slurm's queue it shows what the queue says. That somebody works on a
job is seen by its process, from another host by its heartbeat: there a killed job counts as running for up to half a
minute."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Show a sweep's status, once or until nothing is left to wait for."""
    parser = make_parser("status", TEXT)
    parser.add_argument("dir", type=Path, metavar="DIR", help="a sweep's folder: outputs/sweeps/<sweep_id>")
    parser.add_argument("--watch", action="store_true", help="keep showing it until nothing is left to wait for")
    parser.add_argument(
        "--every", type=_positive, default=5.0, metavar="SECONDS", help="between two looks (%(default)s)"
    )
    args = parser.parse_args(words[1:])
    tidy.require_jobs(args.dir)
    if args.watch:
        screen.watch(args.dir, console(), args.every)
    else:
        screen.show(args.dir, console())


def _positive(word: str) -> float:
    number = float(word)
    if not number > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number
