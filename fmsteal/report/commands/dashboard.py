"""``fmsteal dashboard``: makes a W&B workspace, or a report about a sweep. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fmsteal.report.commands.arguments import end_if_refused, make_parser

TEXT = """\
Make the project's W&B workspace, or with --report a report about one sweep. The names in it are those that runs log.
Needs the extra `dashboard` (pip install 'fmsteal[dashboard]') and a W&B login; --dry-run needs no login."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Make a workspace or a report, or write what would be made."""
    parser = make_parser("dashboard", TEXT)
    parser.add_argument(
        "--project", default=os.environ.get("WANDB_PROJECT") or "fmsteal", help="W&B project (%(default)s)"
    )
    parser.add_argument("--entity", help="team or user (the login's default)")
    parser.add_argument("--report", metavar="SWEEP_ID", help="a report about this sweep, in place of the workspace")
    parser.add_argument("--cells", action="store_true", help="a run for each cell: means over seeds (fmsteal cells)")
    older = "for runs of version 0.1, whose columns are named axis.victim, not axis_victim"
    parser.add_argument("--old-columns", action="store_true", help=older)
    parser.add_argument("--stolen", choices=("classifiers", "encoders"), default="classifiers", help="(%(default)s)")
    parser.add_argument(
        "--dry-run", nargs="?", const="-", metavar="FILE", help="write its JSON there; without: print it"
    )
    args = parser.parse_args(words[1:])
    from fmsteal.report.show import dashboard as made

    shown = made.Dashboard(args.project, args.stolen, args.report, args.cells, args.old_columns)
    view = made.make(shown, args.entity, login=args.dry_run is None)
    if args.dry_run is None:
        print(made.save(view))
    elif args.dry_run == "-":
        print(made.to_json(view))
    else:
        Path(args.dry_run).write_text(made.to_json(view) + "\n")
