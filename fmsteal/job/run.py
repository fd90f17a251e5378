"""Runs one composed job in its output folder: once, resumed after a kill, with failures recorded."""

from __future__ import annotations

import logging
import os
import shutil
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from fmsteal.base import stopping
from fmsteal.base.environment import find_origin
from fmsteal.base.errors import ConfigError, FmstealError, LeaseBusy
from fmsteal.base.lease import lease
from fmsteal.base.on_hydra import parsed_once
from fmsteal.base.quoting import spell_command
from fmsteal.base.store import explain_errors, read_json, write_json
from fmsteal.config.schema import Stage
from fmsteal.identity.keys import axes, find, hash_of, job_key, victim_axes, victim_key
from fmsteal.job import objective, resolvers
from fmsteal.records import results
from fmsteal.records.folders import JobFolder

log = logging.getLogger(__name__)

resolvers.register()  # also in worker processes, which import this module to find `run_job`


def run_job(cfg: DictConfig) -> dict[str, Any] | float:
    """Run the job in its folder, or find its result there.

    Returns:
        The result; with ``metric`` that figure of it, which is what sweepers that search take.

    Raises:
        Stopped: this process was told to end; the job is interrupted, not failed.
        SystemExit: the job exited, and it is alone in its process.
        CompactHydraException: the job failed with one of our errors, or exited in a process it shares.
    """
    hydra = HydraConfig.get()
    shared = hydra.mode == RunMode.MULTIRUN and not _alone(hydra.launcher)
    with stopping.run_worker() if shared else nullcontext(), stopping.heed(), parsed_once():
        return _run_in_folder(cfg)


def _run_in_folder(cfg: DictConfig) -> dict[str, Any] | float:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    named = victim_key if cfg.stage is Stage.victims else job_key
    key = find(folder.parent, named(cfg, hydra.runtime.choices)).name  # an existing folder may have another slug
    try:
        with explain_errors(folder), lease(JobFolder(folder).lease, f"job {key}"):
            if cfg.force:
                _clear_once(JobFolder(folder))
            result = _run(cfg, key, folder)
        ended = cfg.stage is not Stage.victims and "waiting" not in result
        if hydra.mode == RunMode.RUN and ended:
            from fmsteal.report.show.table import show_result

            show_result(result, folder)
        return objective.read(result, cfg.metric) if cfg.metric is not None and ended else result
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    except SystemExit as error:
        if hydra.mode == RunMode.RUN or _alone(hydra.launcher):
            raise
        raise CompactHydraException(f"fmsteal: {key} ended itself (SystemExit: {error})") from error


def _run(cfg: DictConfig, key: str, folder: Path) -> dict[str, Any]:
    stage = "victim" if cfg.stage is Stage.victims else "thief"
    result = results.find_finished(folder, key, cfg) if stage == "thief" else None
    if result is not None:
        log.info("%s is finished already (force=true does it again)", key)
        results.put_config_back(JobFolder(folder))
        return result
    files = JobFolder(folder)
    _require_own(files, key)
    for file in (files.failure, files.waiting):
        file.unlink(missing_ok=True)
    hydra = HydraConfig.get()
    axis, command, jobs = _columns(cfg, stage), _command(cfg), _jobs_of_sweep(folder, stage)
    from fmsteal.job.pipeline import prepare_victim, run
    from fmsteal.job.publish import JobInfo

    try:
        name, alone = _name(axis, jobs, stage), _alone(hydra.launcher)
        victim = victim_key(cfg, hydra.runtime.choices)
        job = JobInfo(key, folder, axis, command, victim, _shows_bar(cfg), name, max(1, len(jobs)), requeued=alone)
        return run(cfg, job) if stage == "thief" else prepare_victim(cfg, job)
    except LeaseBusy as error:
        log.info("%s This job ends and is to be run again.", error)
        theft = os.path.relpath(error.marker.parent, folder.absolute())
        write_json(files.waiting, {"job_key": key, "theft": theft, "command": command})
        return {"job_key": key, "waiting": str(error)}
    except BaseException as error:
        if stopping.was_told() or isinstance(error, KeyboardInterrupt):
            log.info("cut off: %s", stopping.was_told() or "stopped by Ctrl-C")
            raise
        if isinstance(error, Exception):  # a forced job that failed, not one that ended itself
            files.forced.unlink(missing_ok=True)
        if isinstance(error, SystemExit) and _alone(hydra.launcher):  # submitit has asked Slurm to requeue it
            raise
        _record_failure(files, {"job_key": key, "stage": stage, "axis": axis, "command": command}, error)
        raise


def _columns(cfg: DictConfig, stage: str) -> dict[str, Any]:
    """A job's axes; for a job that only makes a victim, the victim's."""
    axis = axes(cfg, HydraConfig.get().runtime.choices)
    return victim_axes(axis, cfg.victim.get("seed")) if stage == "victim" else axis


def _jobs_of_sweep(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The jobs of the sweep that a job's folder belongs to, as the sweep has recorded them; empty for a single job."""
    sweep = folder.parent.parent if stage == "victim" else folder.parent  # sweeps/<sweep_id>/victims/<key>
    return list((results.read_plan(sweep) or {"jobs": {}})["jobs"].values())


def _name(axis: dict[str, Any], jobs: list[dict[str, Any]], stage: str) -> str:
    """The name of this job's run; for a job of a sweep, its log lines show it too."""
    from fmsteal.tracking.naming import find_chosen, find_varying, run_name

    hydra = HydraConfig.get()
    words = hydra.overrides.task
    name = run_name(axis, words, find_varying(jobs) if jobs else find_chosen(axis, words), stage)
    if hydra.mode == RunMode.MULTIRUN:
        _name_in_log(name)
    return name


def _record_failure(files: JobFolder, about: dict[str, Any], error: BaseException) -> None:
    """Record the exception of a job while it is being handled."""
    said = f"{type(error).__name__}: {error}"
    write_json(files.failure, {**about, "error": said, "log": _log(), "traceback": traceback.format_exc()})
    if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other jobs continue, so nothing else reports it now
        log.error("%s failed (its stack trace is in %s)\n%s", about["job_key"], files.failure, said)


def _shows_bar(cfg: DictConfig) -> bool:
    return HydraConfig.get().mode == RunMode.RUN and not cfg.quiet


def _alone(launcher: DictConfig) -> bool:
    """Whether each job of a sweep has its own process, as on Slurm, which it may end."""
    return str(launcher.get("_target_", "")).endswith(resolvers.OWN_LOG)


def _name_in_log(name: str) -> None:
    """Name the job in each line of a shared console; its own log file needs no name."""
    text = f"[%(asctime)s][%(levelname)s] {name.replace('%', '%%')}: %(message)s"
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(text, "%H:%M:%S"))


def _log() -> str | None:
    """The file that this job's log goes to."""
    files = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else None


def _command(cfg: DictConfig) -> str:
    """The command that runs this job alone, even if it is part of a sweep."""
    hydra = HydraConfig.get()
    words = [word for word in hydra.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    words += [word for word in hydra.overrides.task if not word.startswith("quiet=")]
    named = {word.partition("=")[0] for word in words}
    preset = ["-m"] if "sweep" in named else []  # a sweep of this one job
    if not preset and cfg.sweep_id and "sweep_id" not in named:
        words.append(f"sweep_id={cfg.sweep_id}")
    sources = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    extra = [find_origin(path.removeprefix("file://")) for path in sources]
    return spell_command(["fmsteal", *preset, *words, *(f"--config-dir={path}" for path in extra)])


def _require_own(job: JobFolder, key: str) -> None:
    """Check that the folder does not hold the result of another job, which would be lost.

    Raises:
        ConfigError: the folder holds another job's result.
    """
    result = read_json(job.result)
    theirs = result.get("job_key") if isinstance(result, dict) else None
    if isinstance(theirs, str) and hash_of(theirs) != hash_of(key):
        raise ConfigError(
            f"{job.path} holds the result of {theirs}, another job. Choose another output folder (hydra.run.dir=..., "
            "output=...), or move this one away."
        )


def _clear_once(job: JobFolder) -> None:
    """Start again from nothing, with a new theft; a forced job that was killed continues when forced again."""
    if job.forced.exists():
        return
    shutil.rmtree(job.work, ignore_errors=True)
    for file in (job.result, job.failure, job.waiting, job.theft, job.curves, job.predictions):
        file.unlink(missing_ok=True)
    job.forced.parent.mkdir(parents=True, exist_ok=True)
    job.forced.touch()
