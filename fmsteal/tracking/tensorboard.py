"""TensorBoard: event files in each job's folder, so that ``tensorboard --logdir outputs/sweeps/NAME`` shows a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmsteal.records.folders import JobFolder
from fmsteal.tracking.base import RunInfo, Tracker
from fmsteal.tracking.columns import make_columns, make_config, make_notes, name_column, run_id, spell_figures
from fmsteal.tracking.loggers import LoggerTracker, require_package

EVENTS = "events.out.tfevents.*"
FLUSH_SECONDS = 10
ROWS = 500  # rows of a table that are shown; all are in the job's ``tables/``


@dataclass(frozen=True)
class TensorBoardTracking:
    """``tracker=tensorboard``.

    Attributes:
        tables: show the evaluation's tables and pictures; the job's ``tables/`` holds the tables in any case.
        cells: when a sweep over seeds ends, also make a run for each cell, of means over seeds (see ``fmsteal cells``).

    Raises:
        ConfigError: tensorboard is not installed.
    """

    tables: bool = True
    cells: bool = True

    def __post_init__(self) -> None:
        require_package("tensorboard", "tensorboard")

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[Tracker]:
        """Track one run. The events of an earlier process are written again from the CSV file, each point once."""
        from lightning.pytorch.loggers import TensorBoardLogger

        folder = JobFolder(run.folder).tensorboard
        for file in folder.glob(EVENTS):
            file.unlink()
        logger = TensorBoardLogger(
            folder.parent, name=folder.name, version="", default_hp_metric=False, flush_secs=FLUSH_SECONDS
        )
        tracker = TensorBoardTracker(run, logger, self)
        with tracker.finishing():
            tracker.begin()
            yield tracker


class TensorBoardTracker(LoggerTracker):
    """Writes curves as scalars, figures with the run's columns as hyperparameters, tables and texts as Markdown."""

    def __init__(self, info: RunInfo, logger: Any, how: TensorBoardTracking) -> None:
        super().__init__(info, logger)
        self._how = how
        self._linked: dict[str, str] = {}

    def begin(self) -> None:
        """Write what the run is, and the points that earlier processes have logged."""
        lines = make_config(self.info).splitlines()
        self._text("config", "\n".join(f"    {line}" for line in lines))  # indented: shown as it stands
        self._text("notes", make_notes(self.info))
        for _, x, metric, value in self.points():
            self.send({metric: value}, x)

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Write the final figures at step 0, beside the columns that runs are compared by."""
        columns = {**make_columns(self.info), **self._linked, "job_key": self.info.key}
        shown = {name: "none" if value is None else value for name, value in columns.items()}
        self.attempt(lambda: self.logger.log_hyperparams(shown, spell_figures(metrics)))

    def image(self, name: str, path: Path) -> None:
        """Show a picture."""
        with Image.open(path) as picture:
            self._picture(name, picture)

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Show pictures, with their captions as a numbered list."""
        if self._how.tables and shown:
            for number, (picture, _) in enumerate(shown):
                self._picture(f"{name}/{number}", picture)
            self._text(name, "\n".join(f"{number}. {caption}" for number, (_, caption) in enumerate(shown)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write the table, and show its first rows."""
        super().table(name, columns, rows)
        if self._how.tables:
            lines = [list(map(str, columns)), ["---"] * len(columns), *([str(c) for c in row] for row in rows[:ROWS])]
            more = [f"\n{len(rows) - ROWS} more rows in tables/{name}.csv"] if len(rows) > ROWS else []
            self._text(name, "\n".join([*(" | ".join(line) for line in lines), *more]))

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Name the other run among the columns."""
        self._linked[name_column(name)] = "none" if run is None else str(run["id"])

    @property
    def identity(self) -> dict[str, Any]:  # type: ignore[override]
        """The run's id, made from sweep and job."""
        return {"id": run_id(self.info.group, self.info.key), "url": None}

    @property
    def place(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {JobFolder(self.info.folder).tensorboard}"

    def _picture(self, name: str, picture: Image.Image) -> None:
        pixels = np.asarray(picture.convert("RGB"))
        self.attempt(lambda: self.logger.experiment.add_image(name, pixels, 0, dataformats="HWC"))

    def _text(self, name: str, text: str) -> None:
        if text:
            self.attempt(lambda: self.logger.experiment.add_text(name, text, 0))
