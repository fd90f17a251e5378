"""``hydra/sweeper=optuna``. It is here because Hydra finds sweepers only in the ``hydra_plugins`` namespace."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Searches for the values with the best figure: `fmsteal.sweep.search`."""

    def __init__(
        self,
        params: dict[str, Any] | None = None,
        only: Any = None,
        of: str | None = None,
        teraflops: float | None = None,
        **how: Any,
    ) -> None:
        """Keep the options; ``only`` is found in each job's config, ``of`` and ``teraflops`` are for sweeps alone."""
        self.params, self.of, self.how = dict(params or {}), of, how

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launch needs."""
        self._given = (config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> None:
        """Run the search; its trials and results are on disk."""
        from fmsteal.sweep.search import search  # here: Hydra imports all its plugins on every start

        axes = [f"{axis}={choices}" for axis, choices in self.params.items()]
        search([*axes, *arguments], *self._given, self.how)
