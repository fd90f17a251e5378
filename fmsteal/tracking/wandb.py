"""Weights & Biases: online for whoever is logged in, offline for everyone else, never a prompt, never a crash."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import wandb
from PIL import Image

from fmsteal.base import agent
from fmsteal.base.errors import ConfigError
from fmsteal.identity.keys import AXES
from fmsteal.records.folders import JobFolder
from fmsteal.tracking import columns
from fmsteal.tracking.base import CsvTracker, RunInfo, Tracker
from fmsteal.tracking.login import auto_mode, find_refusal
from fmsteal.tracking.naming import LONGEST
from fmsteal.tracking.on_wandb import REFUSED, SERVICE_GONE, UNREACHABLE, check_environment, forget_run
from fmsteal.tracking.signals import warn_at_signal

log = logging.getLogger(__name__)
SERVICE_ENDED = "W&B's service has ended: from here on the curves are in metrics.csv alone"
PROJECT = "fmsteal"
OLD_MODES = {"dryrun": "offline", "run": "online"}  # W&B's old names, which it still accepts


@dataclass(frozen=True)
class WandbTracking:
    """``tracker=wandb``.

    Attributes:
        project: W&B project; None for WANDB_PROJECT, or ``fmsteal`` where that is not set.
        entity: team or user; None for the login's default.
        mode: ``auto`` is online with a login (API key, identity token or netrc entry), else offline; WANDB_MODE wins.
        system_metrics: log CPU, memory and GPU use in sweeps of at most this many jobs; a single job counts as 1.
        tables: send the evaluation's tables and pictures; the job's ``tables/`` holds the tables in any case.
        artifacts: what is kept with the run: ``victim`` (by the run that made it), ``thief``, ``predictions``.
        init_timeout: seconds to wait for the server before falling back to offline.
        tags: tags added to every run; if empty, those of WANDB_TAGS.
        axis_tags: the axes whose choices are tags too, as ``attack=knockoff``.
        cells: when a sweep over seeds ends, also make a run for each cell, of means over seeds (see ``fmsteal cells``).

    Raises:
        ConfigError: W&B would refuse one of these options, or a WANDB_* variable.
    """

    project: str | None = None
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    system_metrics: int = 10
    tables: bool = True
    artifacts: list[Literal["victim", "thief", "predictions"]] = field(default_factory=list)
    init_timeout: float = 30.0
    tags: list[str] = field(default_factory=list)
    axis_tags: list[str] = field(default_factory=lambda: ["data", "victim", "thief", "budget", "attack", "defense"])
    cells: bool = True

    def __post_init__(self) -> None:
        if unknown := [name for name in self.axis_tags if name not in AXES]:
            raise ConfigError(f"tracker.axis_tags: there is no axis {unknown[0]}. There are: {', '.join(AXES)}.")
        if os.environ.get("WANDB_MODE") == "disabled":
            return
        self._mode()
        try:
            wandb.Settings(project=self._project(), run_tags=self.tags or None)
            check_environment()
        except REFUSED as error:
            raise find_refusal(error) from error

    def _project(self) -> str:
        return self.project or os.environ.get("WANDB_PROJECT") or PROJECT

    def _mode(self) -> str:
        """``auto``, ``online`` or ``offline``."""
        given = os.environ.get("WANDB_MODE")
        mode = OLD_MODES.get(given or "", given) or str(self.mode)
        if mode not in ("auto", "online", "offline"):
            raise ConfigError(f"WANDB_MODE={given} is not known; there are online, offline and disabled.")
        return mode

    @contextmanager
    def open(self, run: RunInfo) -> Iterator[Tracker]:
        """Track one run; it is finished in any case, with a non-zero exit code if the block raises.

        If its job is about to be requeued, the run is first marked as preempting and finished: once submitit has
        requested the requeue, all the job's processes are killed, including W&B's with whatever it has not yet written.
        """
        if os.environ.get("WANDB_MODE") == "disabled":
            yield CsvTracker(run.folder, run.curves)
            return
        if wandb.run is not None:
            raise RuntimeError(f"W&B run {wandb.run.id} is still open: finish it before another job starts")
        started = self._start(run)
        code = 1

        def mark() -> None:
            unfinished = wandb.run is started
            if run.requeued and unfinished:
                with outlive_service():
                    started.mark_preempting()

        def finish(code: int = 1) -> None:
            try:
                started.finish(exit_code=code)
            except SERVICE_GONE:  # W&B may not count the run as open, yet it keeps the dead connection for the next one
                log.warning(SERVICE_ENDED)
                forget_run()

        try:
            last = (mark, finish, wandb.teardown) if run.requeued else ()
            with warn_at_signal(signal.SIGTERM, mark), warn_at_signal(signal.SIGUSR2, *last), keep_staging(run.folder):
                yield WandbTracker(run, started, self)
            code = 0
        except SystemExit:  # after Slurm was asked to requeue the job
            mark()
            raise
        finally:
            finish(code)
            if wandb.run is started:  # the run was finished by a signal's handler, whose end was not waited for
                forget_run()

    def _start(self, run: RunInfo) -> Any:
        runs = JobFolder(run.folder).wandb
        before = set(runs.glob("run-*"))
        mode = self._mode()
        try:
            mode = auto_mode() if mode == "auto" else mode
            return self._init(run, mode)
        except SERVICE_GONE:  # it ended after the last run of this process
            forget_run()
            return self._init(run, mode)
        except ValueError as error:  # raised for invalid settings
            raise find_refusal(error) from error
        except UNREACHABLE as error:
            if mode == "offline":
                raise
            agent.require_known(str(error).splitlines()[0])
            log.warning("W&B cannot be reached (%s): this run is kept offline", str(error).splitlines()[0])
            wandb.teardown()
            for begun in set(runs.glob("run-*")) - before:  # left by the attempt: an empty run of the same id
                shutil.rmtree(begun, ignore_errors=True)
            return self._init(run, "offline")

    def _init(self, run: RunInfo, mode: str) -> Any:
        about = {"job_key": run.key, "config": columns.spell_keys(run.config), "git": run.git}
        named = self.tags or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
        own = not agent.started_us()  # an agent has named project, entity and run
        return wandb.init(
            project=self._project() if own else None,
            entity=self.entity if own else None,
            id=columns.run_id(run.group, run.key) if own else None,
            name=_name(run),
            group=run.group,
            job_type=run.kind,
            tags=columns.make_tags(run, self.axis_tags, named),
            notes=columns.make_notes(run) or None,
            dir=str(run.folder),
            config={**columns.make_columns(run), **about},
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=run.kind == "cell" or run.jobs > self.system_metrics,
                init_timeout=self.init_timeout,
            ),
        )


class WandbTracker(CsvTracker):
    """Sends curves to the open W&B run, and writes them to the CSV file.

    A job that resumes after a kill gets a second offline run of the same id. It logs to it again, from the CSV file,
    what the first run has logged: only the last run is complete.
    """

    def __init__(self, info: RunInfo, run: Any, how: WandbTracking) -> None:
        super().__init__(info.folder, info.curves)
        self._info, self._run, self._how = info, run, how
        self._known: set[str] = set()
        if run.offline:
            for name, x, metric, value in self.points():
                self._send({metric: value}, name, x)

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Add a point to each curve."""
        super().log(metrics, x)
        with outlive_service():
            self._send(metrics, *x)

    def _send(self, metrics: Mapping[str, float], name: str, x: float) -> None:
        """Add points; the first on each x axis defines that axis. Points over epochs stay out of the run's summary."""
        if name not in self._known:
            self._known.add(name)
            self._run.define_metric(name, hidden=True, summary="none")
            stage, _, unit = name.rpartition("/")
            summary = {} if unit == "queries" else {"summary": "none"}
            self._run.define_metric(f"{stage}/*", step_metric=name, **summary)
        self._run.log({**columns.spell_figures(metrics), name: x})

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Set the final figures in the run's summary, and log them as one point: plots compare runs by queries."""
        super().summary(metrics)
        with outlive_service():
            self._run.log(columns.spell_figures(metrics))
            self._run.summary.update(columns.spell_figures(metrics))

    def image(self, name: str, path: Path) -> None:
        """Send a picture; the run keeps a copy."""
        with outlive_service():
            self._run.log({name: wandb.Image(str(path))})

    def images(self, name: str, shown: Sequence[tuple[Image.Image, str]]) -> None:
        """Send pictures; the run keeps a copy."""
        if self._how.tables and shown:
            with outlive_service():
                self._run.log({name: [wandb.Image(picture, caption=caption) for picture, caption in shown]})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write the table, and send it."""
        super().table(name, columns, rows)
        if self._how.tables:
            data = [list(row) for row in rows]
            with outlive_service():
                self._run.log({name: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)})

    def artifact(self, kind: str, path: Path) -> None:
        """Keep a file or a folder with the run, if it was asked for; its files are not copied locally."""
        if kind not in self._how.artifacts:
            return
        kept = wandb.Artifact(f"{kind}-{self._run.id}", type=kind, metadata={"job_key": self._info.key})
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            kept.add_file(str(file.absolute()), name=name, policy="immutable")
        with outlive_service():
            self._run.log_artifact(kept)

    def link(self, name: str, run: Mapping[str, Any] | None) -> None:
        """Name the other run in the config, and in a column to compare runs by."""
        known = dict(run) if run is not None else {"id": "none", "url": None}
        with outlive_service():
            update = {name: known, columns.name_column(name): known["id"]}
            self._run.config.update(update, allow_val_change=True)

    @property
    def identity(self) -> dict[str, Any]:  # type: ignore[override]
        """The run's id, and its URL if it is online."""
        return {"id": self._run.id, "url": None if self._run.offline else self._run.url}

    @property
    def place(self) -> str:
        """The run's URL, or its offline folder and the command that syncs it."""
        if not self._run.offline:
            return str(self._run.url)
        return f"offline; upload it with: wandb sync {Path(self._run.dir).parent}"


def _name(run: RunInfo) -> str:
    """The run's name: WANDB_NAME if set, followed in a sweep by the run's own name to distinguish runs."""
    own, given = run.name or run.key, os.environ.get("WANDB_NAME")
    if given:
        own = given if run.group is None else f"{given} · {own}"
    return own[:LONGEST]


@contextmanager
def outlive_service() -> Iterator[None]:
    """Continue if W&B's service has died, as from the SIGTERM that Slurm sends to all processes of a job to stop it.

    The job itself may have minutes left, or all of its time. The curves are in the CSV file; a requeued job logs them
    all again.
    """
    try:
        yield
    except SERVICE_GONE:
        log.warning(SERVICE_ENDED)


@contextmanager
def keep_staging(folder: Path) -> Iterator[None]:
    """Stage the files of tables in the job's folder, so that offline runs do not leave them in a node's home folder."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(JobFolder(folder.absolute()).wandb / "data")
    try:
        yield
    finally:
        os.environ.pop("WANDB_DATA_DIR", None)
