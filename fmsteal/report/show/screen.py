"""``fmsteal status`` in the terminal: which jobs of a sweep are done, under way, failed, cut off or still to come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fmsteal.base.lease import is_held
from fmsteal.base.store import is_there
from fmsteal.records.folders import JobFolder, SweepFolder
from fmsteal.records.results import DONE, FAILED, KILLED, MISSING, RUNNING, STATES, UNREADABLE, JobOnDisk
from fmsteal.report.read.progress import estimate_time_left, format_duration, read_progress
from fmsteal.report.read.status import Status, continue_command, describe_error, describe_stage
from fmsteal.report.show.whole import print_whole

JOB = "job"  # a column's heading
SHOWN = 40  # rows of a table; further ones are only counted


def show(folder: Path, console: Console) -> None:
    """Print the status once."""
    for part in render(Status.of(folder)):
        if isinstance(part, Table) and part.columns[0].header == JOB:
            part.columns[0].no_wrap = True
            print_whole(part, console)
        else:
            console.print(part, soft_wrap=isinstance(part, Text))  # paths and commands stay whole, for copying


def watch(folder: Path, console: Console, every: float) -> None:
    """Keep showing the status until no job is under way and no command is running that would begin others."""
    status = Status.of(folder)
    with Live(Group(*render(status)), console=console, auto_refresh=False) as live:
        while status.moving or (status.of_state(MISSING) and any(map(is_held, SweepFolder(folder).commands()))):
            time.sleep(every)
            status = Status.of(folder)
            live.update(Group(*render(status)), refresh=True)


def render(status: Status) -> list[RenderableType]:
    """A summary line, then the jobs under way, and those that need attention."""
    bar = Table.grid()
    bar.add_row(ProgressBar(len(status.jobs) or 1, len(status.of_state(DONE)), 60))
    parts: list[RenderableType] = [_headline(status), bar]
    if running := status.of_state(RUNNING):
        parts.append(_under_way(running))
    parts += _attention("failed", status.of_state(FAILED, UNREADABLE))
    parts += _attention("cut off: begun, not finished, and nobody works on it", status.of_state(KILLED))
    if missing := status.of_state(MISSING):
        counts = Counter(job.stage or "job" for job in missing)
        text = ", ".join(f"{n} {name if n == 1 else f'{name}s'}" for name, n in counts.items())
        parts.append(Text(f"not begun: {text}; the first is {missing[0].key}"))
    if not status.plan:
        parts.append(
            Text(f"Jobs that were not begun are not known: the folder has no {SweepFolder(status.folder).record.name}.")
        )
    if status.of_state(FAILED, UNREADABLE, KILLED) or (status.of_state(MISSING) and not status.moving):
        parts.append(Text(f"what is left is done by: {continue_command(status.folder)}"))
    return parts


def _under_way(running: Sequence[JobOnDisk]) -> Table:
    table = Table(title="under way", title_justify="left")
    for column in (JOB, "stage", "so far"):
        table.add_column(column, overflow="fold")
    for job in running[:SHOWN]:
        at = read_progress(job.folder)
        table.add_row(job.key, at.text, format_duration(at.seconds))
    if len(running) > SHOWN:
        table.caption = f"and {len(running) - SHOWN} more"
    return table


def _attention(title: str, jobs: Sequence[JobOnDisk]) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(title, style="bold")] if jobs else []
    for job in jobs[:SHOWN]:
        said = [
            f"    {line}" for line in (describe_error(job) if job.state != KILLED else "", f"log {_log(job)}") if line
        ]
        lines.append(Text("\n".join([f"  {job.key}: {describe_stage(job)}", *said])))
    return [*lines, Text(f"  and {len(jobs) - SHOWN} more")] if len(jobs) > SHOWN else lines


def _headline(status: Status) -> Text:
    counts = Counter(job.state for job in status.jobs)
    text = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    line = f"{status.folder.absolute().name}: {len(status.jobs)} jobs: {', '.join(text)}"
    left = estimate_time_left(status.jobs)
    if left is not None and status.moving:
        line += f"; about {format_duration(left)} left"
    elif left and status.of_state(MISSING):
        line += f"; nothing is under way, about {format_duration(left)} of work left"
    return Text(line, style="bold")


def _log(job: JobOnDisk) -> Path:
    log = JobFolder(job.folder).log
    return log if is_there(log) else job.folder
