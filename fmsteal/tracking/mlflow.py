"""MLflow: a server, or a database file in the output folder."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import getproxies

from PIL import Image

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.tracking.base import RunInfo, Tracker
from fmsteal.tracking.columns import (
    make_columns,
    make_config,
    make_notes,
    make_tags,
    run_id,
    spell_figure,
    spell_figures,
)
from fmsteal.tracking.loggers import LoggerTracker, require_package

DATABASE, FILES = "mlflow.db", "mlflow-files"  # in the output folder
RUN = "fmsteal.run"  # the tag by which a job's run is found again
PATIENCE = 10.0  # seconds for a server to answer
Point = tuple[str, int, float]  # a curve's name, its step, its value


@dataclass(frozen=True)
class MlflowTracking:
    """``tracker=mlflow``.

    Attributes:
        folder: the output folder.
        uri: address of a server or database; None for MLFLOW_TRACKING_URI, or a database in the output folder.
        experiment: the experiment's name.
        tables: send the evaluation's tables and pictures; the job's ``tables/`` holds the tables in any case.
        artifacts: what is kept with the run: ``victim`` (by the run that made it), ``thief``, ``predictions``.
        cells: when a sweep over seeds ends, also make a run for each cell, of means over seeds (see ``fmsteal cells``).

    Raises:
        ConfigError: mlflow is not installed, or the address is none.
    """

    folder: str
    uri: str | None = None
    experiment: str = "fmsteal"
    tables: bool = True
    artifacts: list[Literal["victim", "thief", "predictions"]] = field(default_factory=list)
    cells: bool = True

    def __post_init__(self) -> None:
        require_package("mlflow", "mlflow")
        if not re.match(r"[a-z+]+:.|databricks", self.address):
            raise ConfigError(
                f"{self.address} is no address of MLflow (tracker.uri, MLFLOW_TRACKING_URI): https://host, or a "
                "database as sqlite:////path/mlflow.db."
            )

    @property
    def address(self) -> str:
        """The address that runs are sent to."""
        given = self.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{Path(self.folder).absolute() / DATABASE}"

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[Tracker]:
        """Track one run: the job's own, if it has one from an earlier process, which then gets what it lacks.

        Raises:
            FmstealError: MLflow does not take the run.
        """
        require_reachable(self.address)
        try:
            tracker = self._begin(run)
        except Exception as error:  # whatever its client, a database or a server raises
            said = " ".join(str(error).split())
            raise FmstealError(
                f"MLflow at {self.address} does not take the run: {said} Another one: tracker.uri=..., or tracker=none."
            ) from error
        with tracker.finishing():
            yield tracker

    def _begin(self, run: RunInfo) -> MlflowTracker:
        from lightning.pytorch.loggers import MLFlowLogger
        from mlflow import MlflowClient

        own = self.uri is None and not os.environ.get("MLFLOW_TRACKING_URI")
        if own:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        client, name = MlflowClient(self.address), run_id(run.group, run.key)
        experiment = client.get_experiment_by_name(self.experiment)
        there = [] if experiment is None else client.search_runs([experiment.experiment_id], f"tags.`{RUN}` = '{name}'")
        logger = MLFlowLogger(
            experiment_name=self.experiment,
            run_name=run.name or run.key,
            tracking_uri=self.address,
            tags={RUN: name},
            artifact_location=(Path(self.folder).absolute() / FILES).as_uri() if own else None,
            run_id=there[0].info.run_id if there else None,
        )
        tracker = MlflowTracker(run, logger, self)
        tracker.begin()
        return tracker


class MlflowTracker(LoggerTracker):
    """Sends curves as metrics, columns as parameters, tags by axis, tables and pictures as files."""

    def __init__(self, info: RunInfo, logger: Any, how: MlflowTracking) -> None:
        super().__init__(info, logger)
        self._how = how
        self._client, self._id = logger.experiment, logger.run_id
        self._known: set[Point] = set()
        self._final: dict[str, float] = {}

    def begin(self) -> None:
        """Say what the run is; learn which points it has, and send those of the CSV file that it lacks."""
        data = self._client.get_run(self._id).data
        self._client.update_run(self._id, status="RUNNING")
        tags = {"group": self.info.group, "job_type": self.info.kind, "mlflow.note.content": make_notes(self.info)}
        own = dict(tag.split("=", 1) for tag in make_tags(self.info, list(self.info.axis), []))
        for name, said in {**own, **tags}.items():
            if said:
                self._client.set_tag(self._id, name, said)
        columns = {**make_columns(self.info), "job_key": self.info.key}
        self.logger.log_hyperparams({name: v for name, v in columns.items() if name not in data.params})
        self._client.log_text(self._id, make_config(self.info), "config.yaml")
        self._final = dict(data.metrics)
        for name in data.metrics:
            self._known |= {(m.key, m.step, m.value) for m in self._client.get_metric_history(self._id, name)}
        for _, x, metric, value in self.points():
            self.send({metric: value}, x)

    def send(self, metrics: Mapping[str, float], x: float) -> None:
        """Send the points that the run lacks."""
        points = {(spell_figure(name), round(x), float(value)) for name, value in metrics.items()} - self._known
        if points:
            self._known |= points
            self.attempt(lambda: self.logger.log_metrics({name: value for name, _, value in points}, step=round(x)))

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Set the final figures, at step 0."""
        changed = {name: value for name, value in spell_figures(metrics).items() if self._final.get(name) != value}
        self._final |= changed
        self.attempt(lambda: self.logger.log_metrics(changed, step=0))

    def image(self, name: str, path: Path) -> None:
        """Send a picture."""
        self._file(path, name)

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Send pictures, and their captions as a text."""
        if self._how.tables and shown:
            for number, (picture, _) in enumerate(shown):
                file, drawn = f"{name}/{number}.png", picture
                self.attempt(lambda file=file, drawn=drawn: self._client.log_image(self._id, drawn, file))  # type: ignore[misc]
            captions = "\n".join(f"{number}: {caption}" for number, (_, caption) in enumerate(shown))
            self.attempt(lambda: self._client.log_text(self._id, captions, f"{name}/captions.txt"))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write the table, and send the file."""
        super().table(name, columns, rows)
        if self._how.tables:
            self._file(self.folder.tables / f"{name}.csv", name)

    def artifact(self, kind: str, path: Path) -> None:
        """Keep a file or a folder with the run, if it was asked for."""
        if kind not in self._how.artifacts:
            return
        keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        self.attempt(lambda: keep(self._id, str(path), kind))

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Name the other run in a tag."""
        self.attempt(lambda: self._client.set_tag(self._id, name, "none" if run is None else run["id"]))

    @property
    def identity(self) -> dict[str, Any]:  # type: ignore[override]
        """The run's id in MLflow."""
        return {"id": self._id, "url": None}

    @property
    def place(self) -> str:
        """The run's id, and the command that shows the place it is in."""
        return f"run {self._id}; to see it: mlflow ui --backend-store-uri {self._how.address}"

    def _file(self, path: Path, name: str) -> None:
        self.attempt(lambda: self._client.log_artifact(self._id, str(path), name.rpartition("/")[0] or None))


def require_reachable(address: str) -> None:
    """Try a server's port: MLflow's client would retry for minutes. A proxy is taken to have its own route.

    Raises:
        FmstealError: the server does not answer.
    """
    place = urlparse(address)
    if place.scheme not in ("http", "https") or place.scheme in getproxies():
        return
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname or "", port), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        raise FmstealError(
            f"MLflow's server {address} does not answer ({error}). Start it, or name another: tracker.uri=..., "
            "MLFLOW_TRACKING_URI. Without it: tracker=none."
        ) from error
