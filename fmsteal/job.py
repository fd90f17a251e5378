"""Running one composed job in its output folder: once, resumed after a kill, its failure recorded."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from fmsteal import resolvers, results
from fmsteal.errors import FmstealError
from fmsteal.lease import lease
from fmsteal.schema import Stage
from fmsteal.store import explained, write_json
from fmsteal.sweep.frozen import origin
from fmsteal.sweep.identity import axes, job_key, victim_axes, victim_key

log = logging.getLogger(__name__)
FORCED = "work/forced"  # a forced job under way: it was cleared already

resolvers.register()  # also in worker processes, which import this module to find `run_job`


def run_job(cfg: DictConfig) -> dict[str, Any]:
    """Run the job in its folder, or find its result there."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    named = victim_key if cfg.stage is Stage.victims else job_key
    key = named(cfg, hydra.runtime.choices)
    try:
        with explained(folder), lease(folder / ".running", f"job {key}"):
            if cfg.force:
                _clear_once(folder)
            result = _run(cfg, key, folder)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    except SystemExit as error:
        if hydra.mode == RunMode.RUN or _alone(hydra.launcher):
            raise
        raise CompactHydraException(f"fmsteal: {key} ended itself (SystemExit: {error})") from error
    if hydra.mode == RunMode.RUN and cfg.stage is not Stage.victims:
        from fmsteal.report.table import show_result

        show_result(result, folder)
    return result


def _run(cfg: DictConfig, key: str, folder: Path) -> dict[str, Any]:
    stage = "victim" if cfg.stage is Stage.victims else "thief"
    result = results.finished(folder, key, cfg) if stage == "thief" else None
    if result is not None:
        log.info("%s is finished already (force=true does it again)", key)
        return result
    (folder / results.FAILURE).unlink(missing_ok=True)
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    axis, command, sweep = axes(cfg, choices), _command(cfg), folder.parent
    if stage == "victim":  # its folder is sweeps/<sweep_id>/victims/<key>
        axis, sweep = victim_axes(axis, cfg.victim.get("seed", "none")), sweep.parent
    jobs = list((results.recorded(sweep) or {"jobs": {}})["jobs"].values())
    from fmsteal.pipeline import Job, prepare_victim, run
    from fmsteal.tracking.naming import chosen, run_name, varying

    try:
        words, alone = hydra.overrides.task, _alone(hydra.launcher)
        name = run_name(axis, words, varying(jobs) if jobs else chosen(axis, words), stage)
        victim = victim_key(cfg, choices)
        if hydra.mode == RunMode.MULTIRUN:
            _name_in_log(name)
        job = Job(key, folder, axis, command, victim, _shows_bar(cfg), name, max(1, len(jobs)), requeued=alone)
        return run(cfg, job) if stage == "thief" else prepare_victim(cfg, job)
    except BaseException as error:
        if isinstance(error, Exception):  # a forced job that failed, not one that was stopped
            (folder / FORCED).unlink(missing_ok=True)
        if isinstance(error, SystemExit) and _alone(hydra.launcher):  # submitit has asked Slurm to queue it again
            raise
        said = f"{type(error).__name__}: {error}"
        failure = {"job_key": key, "stage": stage, "axis": axis, "error": said, "log": _log(), "command": command}
        write_json(folder / results.FAILURE, {**failure, "traceback": traceback.format_exc()})
        if hydra.mode == RunMode.MULTIRUN:  # the other jobs go on, so that nobody else says it now
            log.error("%s failed (its stack trace is in %s)\n%s", key, folder / results.FAILURE, said)
        raise


def _shows_bar(cfg: DictConfig) -> bool:
    return HydraConfig.get().mode == RunMode.RUN and not cfg.quiet


def _alone(launcher: DictConfig) -> bool:
    """Whether each job of a sweep has a process of its own, as on Slurm: it may end it."""
    return str(launcher.get("_target_", "")).endswith(resolvers.OWN_LOG)


def _name_in_log(name: str) -> None:
    """Say in each line of a shared console which job it comes from; the job's own file lies in its folder."""
    text = f"[%(asctime)s][%(levelname)s] {name.replace('%', '%%')}: %(message)s"
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(logging.Formatter(text, "%H:%M:%S"))


def _log() -> str | None:
    """The file that this job's log goes to."""
    files = [h.baseFilename for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else None


def _command(cfg: DictConfig) -> str:
    """The command that runs this job alone, also where it is one of a sweep."""
    hydra = HydraConfig.get()
    words = [re.sub(r"='([\w.]+)'$", r"=\1", word) for word in hydra.overrides.task if not word.startswith("quiet=")]
    preset = ["-m"] if any(word.startswith("sweep=") for word in words) else []  # a sweep of this one job
    if not preset and cfg.sweep_id and not any(word.startswith("sweep_id=") for word in words):
        words.append(f"sweep_id={cfg.sweep_id}")
    sources = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    extra = [origin(path.removeprefix("file://")) for path in sources]
    return shlex.join(["fmsteal", *preset, *words, *(f"--config-dir={path}" for path in extra)])


def _clear_once(folder: Path) -> None:
    """Begin again from nothing; a forced job that was killed goes on instead when it is forced again."""
    marker = folder / FORCED
    if marker.exists():
        return
    shutil.rmtree(folder / "work", ignore_errors=True)
    for name in (results.RESULT, results.FAILURE, results.INPUTS, "ledger.bin", "metrics.csv", "predictions.npz"):
        (folder / name).unlink(missing_ok=True)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
