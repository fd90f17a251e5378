"""``hydra/launcher=slurm``. It is here because Hydra finds launchers only in the ``hydra_plugins`` namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SlurmLauncher(Launcher):
    """Runs jobs as Slurm arrays; `fmsteal.sweep.on_slurm` defines the options."""

    def __init__(self, **options: Any) -> None:
        self.options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launch needs."""
        self._given = (config, hydra_context, task_function)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and wait for them; a failed or killed one leaves the others."""
        from fmsteal.sweep.on_slurm import Launch, SlurmOptions  # here: Hydra imports all its plugins on every start

        return Launch(*self._given).run(SlurmOptions(**self.options), job_overrides, initial_job_idx)

    def leave(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int, after: str | None = None
    ) -> Sequence[str]:
        """Submit the jobs and return their ids; they begin once the Slurm job ``after``, if any, has ended well."""
        from fmsteal.sweep.on_slurm import Launch, SlurmOptions

        return Launch(*self._given).leave(SlurmOptions(**self.options), job_overrides, initial_job_idx, after)
