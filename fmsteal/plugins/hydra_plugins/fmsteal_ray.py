"""``hydra/launcher=ray``. It is here because Hydra finds launchers only in the ``hydra_plugins`` namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class RayLauncher(Launcher):
    """Runs jobs as tasks of a Ray cluster; `fmsteal.sweep.on_ray` defines the options."""

    def __init__(self, **options: Any) -> None:
        self.options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launch needs."""
        self._given = (config, hydra_context, task_function)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; if one fails, or its worker dies, the others are not affected."""
        from fmsteal.sweep.on_ray import Options, launch  # here: Hydra imports all its plugins on every start

        return launch(Options(**self.options), job_overrides, initial_job_idx, *self._given)
