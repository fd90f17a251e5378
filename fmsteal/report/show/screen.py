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
from fmsteal.records.results import (
    CANCELLED,
    DONE,
    FAILED,
    KILLED,
    MISSING,
    QUEUED,
    RUNNING,
    STATES,
    UNREADABLE,
    WAITING,
    JobOnDisk,
)
from fmsteal.report.read.progress import estimate_time_left, format_duration, read_progress
from fmsteal.report.read.queue import QueueWatch
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
    """Keep showing the status until no job is under way or queued, and no command runs that would begin others."""
    asked = QueueWatch(folder)
    status = Status.of(folder, asked)
    with Live(Group(*render(status)), console=console, auto_refresh=False) as live:
        while status.moving or (status.of_state(MISSING) and _may_begin(status)):
            time.sleep(every)
            status = Status.of(folder, asked)
            live.update(Group(*render(status)), refresh=True)


def _may_begin(status: Status) -> bool:
    """Whether jobs may begin that have not: a command is running, or the cluster that may have them does not answer."""
    return bool(status.queue.unknown) or any(map(is_held, SweepFolder(status.folder).commands()))


def render(status: Status) -> list[RenderableType]:
    """A summary line, then the jobs under way, and those that need attention."""
    bar = Table.grid()
    bar.add_row(ProgressBar(len(status.jobs) or 1, len(status.of_state(DONE)), 60))
    parts: list[RenderableType] = [_headline(status), bar]
    if running := status.of_state(RUNNING):
        parts.append(_under_way(running))
    parts += _queue(status)
    parts += _attention("failed", status.of_state(FAILED, UNREADABLE))
    parts += _attention("cut off: begun, not finished, and nobody works on it", status.of_state(KILLED))
    parts += _cancelled(status.of_state(CANCELLED))
    if missing := status.of_state(MISSING):
        counts = Counter(job.stage or "job" for job in missing)
        many = {"thief": "thieves"}
        text = ", ".join(f"{n} {name if n == 1 else many.get(name, f'{name}s')}" for name, n in counts.items())
        parts.append(Text(f"not begun: {text}; the first is {missing[0].key}"))
    if not status.plan:
        parts.append(
            Text(f"Jobs that were not begun are not known: the folder has no {SweepFolder(status.folder).record.name}.")
        )
    ended = status.of_state(FAILED, UNREADABLE, KILLED, CANCELLED)
    if ended or (status.of_state(MISSING, WAITING) and not status.moving):
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


def _queue(status: Status) -> list[RenderableType]:
    """What waits in a cluster's queue, and why; how to end it."""
    if status.queue.unknown:
        return [Text(f"{status.queue.unknown}: whether jobs wait in its queue cannot be seen from here")]
    queued = status.of_state(QUEUED)
    if not status.queue.there:
        return []
    why = ", ".join(f"{n} {reason}" for reason, n in Counter(job.fault for job in queued).most_common())
    lines = [f"in Slurm's queue: {len(queued)} jobs{f' ({why})' if why else ''}"] if queued else []
    return [Text("\n".join([*lines, f"end it with: fmsteal cancel {status.folder}"]))]


def _cancelled(jobs: Sequence[JobOnDisk]) -> list[RenderableType]:
    """Jobs that left a cluster's queue without having begun, by the reason."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        reasons.setdefault(job.fault, []).append(job.key)
    return [
        Text(f"cancelled: {len(keys)} {'job' if len(keys) == 1 else 'jobs'}, {reason}; the first is {keys[0]}")
        for reason, keys in reasons.items()
    ]


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
