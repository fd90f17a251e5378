"""Runs jobs and sweeps from Python, with the same checks, folders and results as the command line."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError, FmstealError, JobError
from fmsteal.base.on_hydra import error_of, run_in_process
from fmsteal.config import searchpath
from fmsteal.face.borrowing import borrow_hydra
from fmsteal.face.composing import make_arguments, refuse_sweeps, spell_words
from fmsteal.face.jobs import Job, load
from fmsteal.records import results
from fmsteal.records.folders import LOG

FORMAT, CLOCK = "[%(asctime)s][%(levelname)s] %(message)s", "%H:%M:%S"
LAST = 40  # last lines of a sweep's output, kept for its error message


def run(overrides: Sequence[str] = ()) -> Job:
    """Run a job in this process until it has a result; a finished job is only opened.

    After an interruption, the same call continues where it stopped. It writes the same files as ``fmsteal`` with these
    words, and leaves logging, Hydra and the working directory as they were.

    Args:
        overrides: the words that would follow ``fmsteal`` on the command line.

    Raises:
        FmstealError: the error that the command would print: a `ConfigError` before anything runs, or the job's own.
        Exception: any other exception raised by a part of the job, unchanged.
    """
    words = spell_words(overrides)
    with borrow_hydra():
        refuse_sweeps(words)
        from fmsteal import cli

        cfg = cli.refuse_nonsense(make_arguments(words))
        if str(cfg.stage.value) == "victims":
            raise ConfigError("stage=victims has no result to open: leave it out, or use the command line.")
        with searchpath.add_derived(make_arguments(words)):
            done = run_in_process(words, _task, paths.folder("conf"), name="fmsteal")
    if done.status is JobStatus.FAILED:
        error: Exception = error_of(done)
        cause = error.__cause__
        raise cause if isinstance(error, CompactHydraException) and isinstance(cause, FmstealError) else error
    assert done.hydra_cfg is not None
    return load(done.hydra_cfg.hydra.runtime.output_dir)


def _task(cfg: DictConfig) -> Any:
    """Run a job and write its log to its own file."""
    from fmsteal.job.run import run_job

    with _log_to(Path(HydraConfig.get().runtime.output_dir) / LOG, cfg.quiet):
        return run_job(cfg)


@contextmanager
def _log_to(file: Path, quiet: bool) -> Iterator[None]:
    """Send what is logged in the block to the job's file, and to standard output if no other handler is set up."""
    root, ours = logging.getLogger(), logging.getLogger("fmsteal")
    handlers: list[logging.Handler] = [logging.FileHandler(file)]
    if not root.handlers:
        handlers.append(logging.StreamHandler(sys.stdout))
        handlers[-1].setLevel(logging.WARNING if quiet else logging.INFO)
    level = ours.level
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT, CLOCK))
        root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
        handlers[0].close()


def run_sweep(overrides: Sequence[str]) -> list[Job]:
    """Run a sweep and open its jobs: ``fmsteal.run_sweep(["budget=100,500", "seed=range(0,3)"])``.

    This runs ``fmsteal -m`` with these words in its own process, where Ctrl-C, jobs that exit and launchers behave as
    on the command line. Its output is printed as it arrives. Finished jobs are not run again.

    Args:
        overrides: the words that would follow ``fmsteal -m``.

    Returns:
        The finished jobs of the sweep's folder in the order they were requested, including those that an earlier call
        or command with the same ``sweep_id`` has added.

    Raises:
        ConfigError: something is wrong with a job; none was run.
        JobError: some jobs have no result; the message names them and their errors. The others can be opened.
    """
    words = spell_words(overrides)
    with borrow_hydra():
        from fmsteal import cli

        args = make_arguments(words, multirun=True)
        cli.name_sweep(args)
        folder = Path(cli.refuse_nonsense(args).hydra.sweep.dir)
    code, said = _command(["-m", *args.overrides])
    jobs = [entry for entry in results.list_planned(folder) or () if entry.stage != "victim"]
    if code:
        failed = [
            f"{entry.key}: {(entry.failure or {}).get('error')}" for entry in jobs if entry.state == results.FAILED
        ]
        told = "\n".join(failed) or "\n".join(line for line in said if line.startswith("fmsteal:")) or "\n".join(said)
        raise JobError(f"The sweep in {folder} ended with jobs that have no result (exit status {code}):\n{told}")
    return [load(entry.folder) for entry in jobs if entry.state == results.DONE]


def _command(words: Sequence[str]) -> tuple[int, list[str]]:
    """Run the command, print its output, and return its exit status and the last lines."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    said: deque[str] = deque(maxlen=LAST)
    command = [sys.executable, "-u", "-m", "fmsteal", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="")
                said.append(line.rstrip("\n"))
        except BaseException:  # the command ends its jobs, and says how to continue
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            print(process.stdout.read(), end="")
            raise
    return process.returncode, list(said)
