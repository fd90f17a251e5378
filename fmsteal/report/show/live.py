"""The display of a sweep under way: its stages, its jobs and the time left.

In a terminal it is a bar that stays below the log; in a log file or in CI, a line for each job that ends, and one now
and then while none does. It reads everything from the jobs' folders, wherever they run.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fmsteal.records import results
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import DONE, FAILED, RUNNING, UNREADABLE, JobOnDisk
from fmsteal.report.read.about import describe
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.progress import estimate_time_left, format_duration, read_progress, seconds_of
from fmsteal.report.read.status import describe_error

LOOK_SECONDS = 2.0  # between two looks at the folders
SILENT_SECONDS = 60.0  # after which a log gets a line even if no job has ended
ESTIMATE_SECONDS = 10.0  # between two estimates of the time left
SHOWN = 6  # jobs under way that are listed


@dataclass(frozen=True)
class StageJobs:
    """The jobs of one launch.

    Attributes:
        name: ``victims`` or ``thieves``.
        jobs: the jobs by key, as they were before the launch.
        names: the jobs' names by key.
        before: how many further jobs were done already.
        prepared: says by key whether a victim is in the store, which its folder does not show.
    """

    name: str
    jobs: Mapping[str, JobOnDisk]
    names: Mapping[str, str]
    before: int = 0
    prepared: Callable[[str], bool] | None = None


class Watch:
    """The progress of a stage as of the last `look`. A job that has ended is not read again."""

    def __init__(self, stage: StageJobs) -> None:
        self.stage = stage
        self.jobs = dict(stage.jobs)
        self.ended: dict[str, JobOnDisk] = {}
        self._before = {key: _outcomes(job.folder) for key, job in self.jobs.items()}

    def look(self) -> list[JobOnDisk]:
        """Read the folders of the jobs that have not ended; return the jobs that have ended since the last look."""
        fresh = []
        for key, known in self.jobs.items():
            if key in self.ended:
                continue
            self.jobs[key] = entry = self._read(known)
            if entry.state in (DONE, FAILED, UNREADABLE):
                self.ended[key] = entry
                fresh.append(entry)
        return fresh

    def _read(self, known: JobOnDisk) -> JobOnDisk:
        """The job as its folder shows it; outcomes left by an earlier run of it do not count."""
        if not JobFolder(known.folder).hydra.is_dir():
            return known
        entry = replace(results.read_job(known.folder), overrides=known.overrides, stage=known.stage)
        if self.stage.prepared is not None and self.stage.prepared(known.key):
            return replace(entry, state=DONE)
        if entry.state == RUNNING or _outcomes(known.folder) != self._before[known.key]:
            return entry
        return known

    @property
    def running(self) -> list[JobOnDisk]:
        """The jobs under way."""
        return [job for job in self.jobs.values() if job.state == RUNNING]

    @property
    def failed(self) -> int:
        """How many jobs have failed."""
        return sum(job.state != DONE for job in self.ended.values())

    @property
    def done(self) -> int:
        """How many jobs are done, including those before this launch."""
        return len(self.ended) - self.failed + self.stage.before

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return len(self.jobs) + self.stage.before


class Display:
    """Shows a stage until it is closed."""

    def __init__(self, stage: StageJobs, console: Console | None = None) -> None:
        self.watch = Watch(stage)
        self.console = console or Console(stderr=True)
        self._left: float | None = None
        self._estimated = self._said = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="progress", daemon=True)
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        )

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
            _log_above()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()
        self.refresh()
        if self._live is not None:
            self._live.stop()
            _log_above()

    def _keep_looking(self) -> None:
        took = 0.0
        while not self._over.wait(max(LOOK_SECONDS, 20 * took)):  # a slow file system is asked less often
            began = time.monotonic()
            self.refresh()
            took = time.monotonic() - began

    def refresh(self) -> None:
        """Look once, and show what is new."""
        try:
            ended = self.watch.look()
        except OSError:  # the file system may answer the next time
            return
        if time.monotonic() - self._estimated > ESTIMATE_SECONDS or self._left is None:
            self._left, self._estimated = estimate_time_left(list(self.watch.jobs.values())), time.monotonic()
        for number, entry in enumerate(ended, 1 - len(ended)):
            self._say(f"{self._count(number)} {self._outcome(entry)}")
        if self._live is not None:
            self._live.update(Group(*self.render()), refresh=True)
        elif time.monotonic() - self._said > SILENT_SECONDS:
            self._say(self.headline())

    def headline(self) -> str:
        """``thieves: 12 of 36 done, 1 failed, 2 under way, about 4 min left``."""
        watch = self.watch
        parts = [f"{watch.stage.name}: {watch.done:,} of {watch.total:,} done"]
        parts += [f"{watch.failed:,} failed"] if watch.failed else []
        parts += [f"{len(watch.running):,} under way"] if watch.running else []
        parts += [f"about {format_duration(self._left)} left"] if self._left else []
        return ", ".join(parts)

    def render(self) -> list[RenderableType]:
        """The stage's bar, and the jobs under way."""
        watch = self.watch
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(watch.total or 1, watch.done + watch.failed, 30), Text(self.headline()))
        parts: list[RenderableType] = [bar]
        for job in watch.running[:SHOWN]:
            at = read_progress(job.folder)
            parts.append(
                Text(
                    f"  {self._name(job)}  {at.text}  {format_duration(at.seconds)}", overflow="ellipsis", no_wrap=True
                )
            )
        if len(watch.running) > SHOWN:
            parts.append(Text(f"  and {len(watch.running) - SHOWN:,} more"))
        return parts

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        self.console.print(f"[{time.strftime('%H:%M:%S')}] {text}", soft_wrap=True, highlight=False, markup=False)

    def _count(self, number: int) -> str:
        """The place, out of all jobs, of the job that ended ``-number`` jobs ago."""
        total = str(self.watch.total)
        return f"{self.watch.done + self.watch.failed + number:>{len(total)}}/{total}"

    def _outcome(self, entry: JobOnDisk) -> str:
        if entry.state != DONE:
            return f"{self._name(entry)}  failed: {describe_error(entry)}"
        result, seconds = entry.result or {}, seconds_of(entry)
        headline = (result.get("metrics") or {}).get(HEADLINE)
        said = [f"{describe([result])[HEADLINE].label} {headline:.3f}"] if isinstance(headline, float) else []
        said += [format_duration(seconds)] if seconds is not None else []
        return "  ".join([self._name(entry), *(said or ["prepared" if entry.stage == "victim" else "done"])])

    def _name(self, entry: JobOnDisk) -> str:
        return self.watch.stage.names.get(entry.key, entry.key)


@contextmanager
def show_stage(stage: StageJobs, quiet: bool = False) -> Iterator[None]:
    """Show a stage's progress inside the block, unless it is ``quiet`` or has no job."""
    if quiet or not stage.jobs:
        yield
        return
    with Display(stage):
        yield


def _outcomes(folder: Path) -> list[int | None]:
    """When a job's result and failure were written."""
    files = (JobFolder(folder).result, JobFolder(folder).failure)
    return [file.stat().st_mtime_ns if file.exists() else None for file in files]


def _log_above() -> None:
    """Send the log to the current standard output, which is above the display while there is one."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stdout)
