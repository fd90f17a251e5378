"""``hydra/sweeper=staged``. It is here because Hydra finds sweepers only in the ``hydra_plugins`` namespace."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StagedSweeper(Sweeper):
    """Composes and checks every job, launches each distinct victim once, then the thefts: `fmsteal.sweep.run`."""

    def __init__(
        self,
        params: dict[str, Any] | None = None,
        only: dict[str, Any] | None = None,  # found in each job's own config: `fmsteal.sweep.only`
        mixed: bool = False,
        freeze: bool = True,
        of: str | None = None,
        teraflops: float | None = None,  # read by the plan: `fmsteal.sweep.estimate`
    ) -> None:
        self.params = dict(params or {})
        self.mixed, self.freeze, self.of = mixed, freeze, of

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launch needs."""
        self._given = (config, hydra_context, task_function)

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep; its results are on disk."""
        from fmsteal.sweep.run import run  # here: Hydra imports all its plugins on every start

        axes = [f"{axis}={choices}" for axis, choices in self.params.items()]
        run([*axes, *arguments], *self._given, mixed=self.mixed, freeze=self.freeze, of=self.of)
