"""``fmsteal verify``: are the results right, and are the files that they were made from unchanged?

The checks use none of the code that made what they check: figures against predictions, ledgers against costs and
budgets, files against digests, axes against identities (`fmsteal.report.checks`). For results from before thefts were
kept, only figures are checked. Imports no torch.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from fmsteal.base.errors import FmstealError
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import DONE, UNREADABLE, JobOnDisk, list_begun
from fmsteal.report.checks.figures import DISTANCES, SHARES, check_figures, tolerance
from fmsteal.report.checks.job import check_job, is_old
from fmsteal.report.commands.arguments import end_if_refused, make_parser
from fmsteal.report.read.tidy import require_jobs
from fmsteal.report.show.table import console
from fmsteal.report.show.whole import print_whole

TEXT = """\
Check finished jobs by other code than that which made them. Figures are computed again from the kept predictions:
agreement, agreement@k, accuracies, KL, L1, their intervals; of encoders those of each downstream set. Ledgers are read
record by record and compared with costs and budgets; results, thefts and measurements with each other, with the
digests of their files, with their identity and config, and with an offline W&B run's summary. It ends non-zero where
anything differs, is missing or torn."""


@dataclass(frozen=True)
class Verdict:
    """What verifying a job found.

    Attributes:
        entry: the job.
        off: how far off each figure is that was computed again.
        faults: what is wrong, in words.
        unchecked: figures that its predictions do not determine.
        counted: how many ledgers, answers, digests and W&B runs were checked.
    """

    entry: JobOnDisk
    off: Mapping[str, float] = field(default_factory=dict)
    faults: Sequence[str] = ()
    unchecked: Sequence[str] = ()
    counted: Counter[str] = field(default_factory=Counter)


def verify(entry: JobOnDisk) -> Verdict:
    """Check a finished job."""
    if entry.result is None:
        return Verdict(entry, faults=[entry.fault])
    figures = check_figures(entry.folder, entry.result)
    if is_old(entry.result):
        return Verdict(entry, figures.off, figures.faults, figures.unchecked, Counter({"old": 1}))
    found = check_job(JobFolder(entry.folder))
    return Verdict(entry, figures.off, [*figures.faults, *found.faults], figures.unchecked, found.counted)


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Verify the sweeps named on the command line; exit non-zero if anything is wrong."""
    parser = make_parser("verify", TEXT)
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    args = parser.parse_args(words[1:])
    entries = []
    for folder in args.dirs:
        require_jobs(folder)
        entries += list_begun(folder)
    sys.exit(_show(entries))


def _show(entries: Sequence[JobOnDisk]) -> int:
    """Verify, print what was checked and what is wrong, and return the exit status."""
    verdicts = [verify(entry) for entry in entries if entry.state in (DONE, UNREADABLE)]
    if not verdicts:
        raise FmstealError("No job is finished: there is nothing to verify.")
    out, wrong = console(), [verdict for verdict in verdicts if verdict.faults]
    if any(verdict.off for verdict in verdicts):
        out.print(_checked(verdicts))
    if wrong:
        print_whole(_faults(wrong, len(verdicts)), out)
    if others := sorted({name for verdict in verdicts for name in verdict.unchecked}):
        out.print(f"not kept as predictions, so not computed again: {', '.join(others)}", highlight=False, markup=False)
    if left := len(entries) - len(verdicts):
        out.print(f"{left} jobs that were begun are not finished: they are not in it.", highlight=False)
    out.print(_counts(verdicts), highlight=False)
    if not wrong:
        out.print(
            f"all {len(verdicts)} results are what their predictions say (tolerance {SHARES:g}; KL, L1 {DISTANCES:g})"
        )
    return int(bool(wrong))


def _checked(verdicts: Sequence[Verdict]) -> Table:
    """The figures that were computed again, and how far off they are."""
    checked = Table(title="computed again from the predictions", title_justify="left")
    checked.add_column("figure", overflow="fold")
    for heading in ("jobs", "differ", "largest difference"):
        checked.add_column(heading, justify="right")
    for name in sorted({name for verdict in verdicts for name in verdict.off}):
        off = [verdict.off[name] for verdict in verdicts if name in verdict.off]
        differ = sum(not value <= tolerance(name) for value in off)
        checked.add_row(escape(name), str(len(off)), str(differ), f"{max(off, key=_severity):.1e}")
    return checked


def _faults(wrong: Sequence[Verdict], jobs: int) -> Table:
    """The jobs that are wrong, out of ``jobs``, each with its faults."""
    table = Table(title=f"{len(wrong)} of {jobs} jobs are wrong", title_justify="left")
    table.add_column("job", no_wrap=True)
    table.add_column("what", overflow="fold")
    for verdict in wrong:
        table.add_row(escape(verdict.entry.key), escape("\n".join(verdict.faults)))
    return table


def _counts(verdicts: Sequence[Verdict]) -> str:
    """In words, how much was checked."""
    total: Counter[str] = Counter()
    for verdict in verdicts:
        total.update(verdict.counted)
    said = (
        f"checked: figures {sum(len(v.off) for v in verdicts)}, ledgers {total['ledgers']} ({total['answers']} answers)"
    )
    said += f", digests {total['digests']}, W&B runs {total['W&B runs']}"
    return said + (f"; of {total['old']} results of before thefts were kept the figures alone" if total["old"] else "")


def _severity(off: float) -> float:
    return np.inf if np.isnan(off) else off
