"""``fmsteal cells``: a run for each cell of a sweep, with means over seeds, in the service that its jobs went to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fmsteal.base.errors import FmstealError
from fmsteal.report.commands.arguments import end_if_refused, make_parser

TEXT = """\
Send each cell (the jobs that differ in the seed alone) as one run to the service that its jobs went to, W&B for
instance: mean, half of the 95 % interval, its ends, and n, of every figure, as `fmsteal report` has them. A sweep over
seeds does it when it ends. Given again, it updates the runs of cells that have changed."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Send the cells of the folders named on the command line."""
    parser = make_parser("cells", TEXT)
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    parser.add_argument("--again", action="store_true", help="also cells that have not changed since they were sent")
    args = parser.parse_args(words[1:])
    from fmsteal.report.show.cells import send

    for folder in args.dirs:
        found = send(folder, args.again)
        if found.without and not (found.sent or found.unchanged):
            raise FmstealError(
                f"The jobs of {folder} went to no service that shows runs: tracker=none, or tracker.cells=false."
            )
        counts = f"{found.sent} cells sent, {found.unchanged} unchanged, {found.unfinished} without a finished job"
        print(f"{folder}: {counts}")
