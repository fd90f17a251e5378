"""Runs jobs as Slurm arrays, through submitit: waits for them, or leaves them in the queue.

A sweep that is left in the queue has nobody who looks at its jobs. A job's exit status therefore says whether it has
failed, as the jobs that depend on it need, and a job whose theft is another's puts itself back into the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from fmsteal.base import slurm
from fmsteal.base.on_hydra import error_of

log = logging.getLogger(__name__)
ABOUT_SWEEP = ("wait", "submitit_folder", "victims", "thefts")  # options that do not describe a job


@dataclass
class SlurmOptions:
    """The launcher's options; ``conf/hydra/launcher/slurm.yaml`` explains each."""

    wait: bool = True
    submitit_folder: str = ".submitit/%j"
    name: str = "fmsteal"
    comment: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    timeout_min: int = 60
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: int | None = None
    gres: str | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    array_parallelism: int = 256
    stderr_to_stdout: bool = True
    max_num_timeout: int = 0
    signal_delay_s: int = 120
    setup: list[str] | None = None
    python: str | None = None
    srun_args: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    victims: dict[str, Any] = field(default_factory=dict)
    thefts: dict[str, Any] = field(default_factory=dict)

    def of_jobs(self, after: str | None = None) -> dict[str, Any]:
        """The options as submitit names them, of jobs that begin once the job ``after`` has ended well."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ABOUT_SWEEP}
        if after is not None:
            more = dict(self.additional_parameters)
            asked = [str(more.pop("dependency"))] if more.get("dependency") else []
            more |= {"dependency": ",".join([*asked, f"afterok:{after}"]), "kill-on-invalid-dep": "yes"}
            given["additional_parameters"] = more
        return given


STAGED = tuple(
    f.name for f in fields(SlurmOptions) if f.name not in (*ABOUT_SWEEP, "name", "comment", "stderr_to_stdout")
)


@dataclass
class SlurmJob:
    """What a Slurm job calls. It is pickled, and imports what a job needs where it runs.

    Attributes:
        context: Hydra's context.
        config: the sweep's own config.
        task: the function that runs a job.
        singletons: Hydra's state in the command's process.
        left: whether the job was left in the queue, with no process waiting for it.
    """

    context: HydraContext
    config: DictConfig
    task: TaskFunction
    singletons: dict[Any, Any]
    left: bool

    def __call__(self, overrides: list[str], number: int) -> JobReturn:
        """Compose a job and run it; it fails, as Slurm sees it, if it was left and raises.

        Raises:
            Exception: what the job raised, if it was left.
            SystemExit: the job was left, its theft is another job's, and it is queued again.
        """
        from fmsteal.sweep import on_submitit

        Singleton.set_state(self.singletons)
        setup_globals()
        cfg = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = on_submitit.own_id(), number
        HydraConfig.instance().set_config(cfg)
        done = run_job(
            hydra_context=self.context,
            config=cfg,
            task_function=self.task,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        if self.left and done.status is JobStatus.FAILED:
            raise error_of(done)
        if self.left and isinstance(done.return_value, dict) and "waiting" in done.return_value:
            _queue_again(on_submitit.own_id())
        return done

    def checkpoint(self, *arguments: Any) -> Any:
        """What the job calls when Slurm starts it again: the same; its state is in its folder."""
        from fmsteal.sweep import on_submitit

        return on_submitit.call_again(self, *arguments)


def _queue_again(job: str) -> None:
    """Put this process's job back into the queue and end it, so that its device is free meanwhile.

    Raises:
        SystemExit: it is queued again.
    """
    refused = slurm.queue_again(job)
    if not refused:
        log.info("queued again")
        raise SystemExit(-1)
    log.warning("Slurm does not queue this job again (%s): the sweep's command runs it once more.", refused)


@dataclass
class Launch:
    """What a launch needs of Hydra."""

    config: DictConfig
    context: HydraContext
    task: TaskFunction

    def run(self, options: SlurmOptions, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run the jobs, given by their overrides, and wait for them; a failed or killed one leaves the others."""
        submitted = self._submit(options, jobs, first, left=False)
        ids = sorted({job.job_id.partition("_")[0] for job in submitted})
        log.info("%d jobs are submitted to Slurm: %s", len(jobs), ", ".join(ids))
        return [job.results()[0] for job in submitted]

    def leave(
        self, options: SlurmOptions, jobs: Sequence[Sequence[str]], first: int, after: str | None = None
    ) -> list[str]:
        """Submit the jobs as one array; return the id of each.

        Args:
            options: of the jobs.
            jobs: the overrides of each.
            first: the first one's number in the sweep.
            after: the Slurm job that has to end well before they begin. If it fails, Slurm cancels them.

        Raises:
            JobError: Slurm refused them.
        """
        return [str(job.job_id) for job in self._submit(options, jobs, first, left=True, after=after)]

    def _submit(
        self, options: SlurmOptions, jobs: Sequence[Sequence[str]], first: int, left: bool, after: str | None = None
    ) -> list[Any]:
        from fmsteal.sweep import on_submitit

        on_submitit.outlive_dead_jobs()
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        call = SlurmJob(self.context, self.config, self.task, Singleton.get_state(), left)
        numbered = [(list(job), first + place) for place, job in enumerate(jobs)]
        return on_submitit.submit(call, numbered, options.submitit_folder, options.of_jobs(after))
