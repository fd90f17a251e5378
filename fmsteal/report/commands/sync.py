"""``fmsteal sync``: uploads W&B runs that were kept offline. No torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.records.folders import WANDB
from fmsteal.report.commands.arguments import end_if_refused, make_parser

TEXT = """\
Upload the runs that were kept offline, of sweeps or single jobs, by W&B's own `wandb sync`: of each run its last
finished fragment, which holds all points (a job that was killed and went on leaves several). Runs that are uploaded
already, and jobs that are at work, are left out; give the command again later."""
AT_ONCE = 100  # runs given to one call of `wandb sync`, since the length of a command line is limited


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Upload offline runs."""
    parser = make_parser("sync", TEXT)
    parser.add_argument(
        "dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs, or a job"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, one folder a line")
    parser.add_argument("--again", action="store_true", help="also what is uploaded already")
    args = parser.parse_args(words[1:])
    from fmsteal.tracking.offline import plan

    for folder in args.dirs:
        if not any(folder.rglob(f"{WANDB}/*run-*")):
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
