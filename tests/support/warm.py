"""The `fmsteal` command in processes of their own that need not import everything again.

A job imports PyTorch, Lightning, timm and W&B, which takes longer than all else that a small one does. Here one process
imports them once, and each command is forked from it (`multiprocessing`'s fork server). What `python -m fmsteal` does
beyond that is tested by `tests/e2e/test_wheel.py`, `tests/e2e/test_joblib.py`, `tests/slurm` and `tests/ray`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "fmsteal.attacks.knockoff",
        "fmsteal.attacks.stolen_encoder",
        "fmsteal.data.digits",
        "fmsteal.evaluation.classifier",
        "fmsteal.evaluation.encoder",
        "fmsteal.evaluation.fidelity",
        "fmsteal.job.pipeline",
        "fmsteal.report.commands",
        "fmsteal.report.show.live",
        "fmsteal.report.show.table",
        "fmsteal.sweep.available",
        "fmsteal.sweep.run",
        "fmsteal.sweep.servable",
        "fmsteal.tracking.wandb",
        "fmsteal.victims.classifier",
        "fmsteal.victims.encoder",
        "matplotlib.pyplot",
        "pandas",
        "sklearn.datasets",
        "wandb.sdk.wandb_init",
        "tests.support.preloaded",
    ]
)


class Command:
    """A running ``fmsteal WORDS``, with those parts of `subprocess.Popen` that tests need."""

    def __init__(self, words: tuple[str, ...], cwd: Path, env: dict[str, str], joined: bool = False) -> None:
        """Start it; ``joined``: both its outputs in one text."""
        self.words = words
        self._said = [tempfile.NamedTemporaryFile(prefix="fmsteal-said-") for _ in range(1 if joined else 2)]  # noqa: SIM115
        files = [file.name for file in self._said]
        self._process: BaseProcess = CONTEXT.Process(target=_run, args=(words, str(cwd), env, files[0], files[-1]))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def said(self) -> list[str]:
        """What it has written so far: standard output and error, or both in one."""
        return [Path(file.name).read_text(errors="replace") for file in self._said]

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; its standard output and error."""
        self._process.join(timeout)
        if self.returncode is None:
            self.send_signal(9)
            raise TimeoutExpired(["fmsteal", *self.words], timeout, "".join(self.said()))
        out, *err = self.said()
        return out, "".join(err)

    def done(self) -> CompletedProcess[str]:
        """Wait for its end, as `subprocess.run` does."""
        out, err = self.communicate()
        assert self.returncode is not None
        return CompletedProcess(["fmsteal", *self.words], self.returncode, out, err)


def _run(words: tuple[str, ...], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """Be ``python -m fmsteal WORDS`` in the folder ``cwd``."""
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["fmsteal", *words]
    from fmsteal.cli import main

    main()
