"""The progress of a run: one live bar in a terminal, a few plain lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

log = logging.getLogger(__name__)
LOG_EVERY_SECONDS = 10.0


class Progress:
    """A context manager; inside it, `update` shows the current stage.

    ``alone``: no other job shares the terminal. A sweep's jobs leave it to the sweep's display (`report.live`).
    """

    def __init__(self, on_update: Callable[[], None] = lambda: None, alone: bool = True) -> None:
        self._on_update = on_update
        self._bar: RichProgress | None = None
        if alone and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:>16}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = RichProgress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
        self._stage: str | None = None
        self._task: Any = None
        self._logged = 0.0

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` units of ``stage`` are done."""
        self._on_update()
        if self._bar is not None:
            if stage != self._stage:
                self._task = self._bar.add_task(stage, total=total, note=note)
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif stage != self._stage or done == total or time.monotonic() - self._logged > LOG_EVERY_SECONDS:
            log.info("%s: %d/%d %s", stage, done, total, note)
            self._logged = time.monotonic()
        self._stage = stage
