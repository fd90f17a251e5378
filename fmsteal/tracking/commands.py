"""The sub-commands ``fmsteal sync`` and ``fmsteal dashboard``. No torch."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fmsteal.errors import FmstealError, StoreError

SYNC = """\
Upload the runs that were kept offline, of sweeps or single jobs, by W&B's own `wandb sync`: of each run its last
finished fragment, which holds all points (a job that was killed and went on leaves several). Runs that are uploaded
already, and jobs that are at work, are left out; give the command again later."""
DASHBOARD = """\
Make the project's W&B workspace, or with --report a report about one sweep. The names in it are those that runs log.
Needs the extra `dashboard` (pip install 'fmsteal[dashboard]') and a W&B login; --dry-run needs no login."""
AT_ONCE = 100  # runs given to one call of `wandb sync`: a command line has an end


def main(words: Sequence[str]) -> None:
    """Run a sub-command; its name is the first word."""
    try:
        {"sync": sync, "dashboard": dashboard}[words[0]](words[1:])
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def sync(words: Sequence[str]) -> None:
    """Upload offline runs.

    Raises:
        FmstealError: a folder without offline runs, a server that does not answer, or `wandb sync` failed.
    """
    parser = _parser("sync", SYNC)
    parser.add_argument(
        "dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs, or a job"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, one folder a line")
    parser.add_argument("--again", action="store_true", help="also what is uploaded already")
    args = parser.parse_args(words)
    from fmsteal.tracking.offline import plan

    for folder in args.dirs:
        if not any(folder.rglob("wandb/*run-*")):
            raise StoreError(f"There are no W&B runs in {folder}. A sweep's folder is outputs/sweeps/<sweep_id>.")
    found = plan(args.dirs, args.again)
    for job in found.running:
        print(f"fmsteal: {job} is at work; give this command again when it is done", file=sys.stderr)
    counts = f"{found.synced} uploaded already, {len(found.running)} at work, {found.older} earlier fragments left out"
    if args.dry_run:
        for fragment in found.upload:
            print(fragment.file.parent)
        print(f"fmsteal: {len(found.upload)} runs to upload; {counts}", file=sys.stderr)
        return
    folders = [str(fragment.file.parent) for fragment in found.upload]
    if folders:
        from fmsteal.tracking.login import require_reachable

        require_reachable()
    for start in range(0, len(folders), AT_ONCE):
        command = [sys.executable, "-m", "wandb", "sync", "--include-synced", *folders[start : start + AT_ONCE]]
        code = subprocess.run(command, check=False).returncode
        if code:
            raise FmstealError("`wandb sync` failed, see above. Without a login: wandb login, then the same again.")
    left = [f for f in found.upload if not f.synced]
    if left:
        raise FmstealError(
            f"{len(left)} of {len(folders)} runs were not uploaded, as {left[0].file.parent}. Without a login: "
            "wandb login, then the same again."
        )
    print(f"{len(folders)} runs uploaded; {counts}")


def dashboard(words: Sequence[str]) -> None:
    """Make a workspace or a report, or write what would be made."""
    parser = _parser("dashboard", DASHBOARD)
    parser.add_argument("--project", default="fmsteal", help="W&B project (%(default)s)")
    parser.add_argument("--entity", help="team or user (the login's default)")
    parser.add_argument("--report", metavar="SWEEP_ID", help="a report about this sweep, in place of the workspace")
    parser.add_argument("--stolen", choices=("classifiers", "encoders"), default="classifiers", help="(%(default)s)")
    parser.add_argument(
        "--dry-run", nargs="?", const="-", metavar="FILE", help="write its JSON there; without: print it"
    )
    args = parser.parse_args(words)
    from fmsteal.tracking import dashboard as made

    view = made.made(args.entity, args.project, args.report, args.stolen, login=args.dry_run is None)
    if args.dry_run is None:
        print(made.saved(view))
    elif args.dry_run == "-":
        print(made.as_json(view))
    else:
        Path(args.dry_run).write_text(made.as_json(view) + "\n")


def _parser(name: str, text: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"fmsteal {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
