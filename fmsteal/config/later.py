"""Configs of Hydra's store that are made when they are asked for.

Presets of sweeps and derived choices are listed by every command and hardly ever used: to make all of them at its start
would be a tenth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.config_store import ConfigNode
from omegaconf import DictConfig

from fmsteal.base.on_hydra import open_group


class Later(ConfigNode):
    """A node of the store that makes its config once it is needed. One that goes to another process takes it along."""

    def __init__(
        self, name: str, make: Callable[[], DictConfig], group: str, package: str | None, provider: str | None
    ) -> None:
        self.name, self.group, self.package, self.provider = name, group, package, provider
        self._make = make

    def __getattr__(self, name: str) -> Any:
        if name != "node":
            raise AttributeError(name)
        self.node = self._make()
        return self.node

    def __deepcopy__(self, memo: dict[int, Any]) -> Later:
        return self  # Hydra copies the whole store for each job that it composes

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfigNode, (self.name, self.node, self.group, self.package, self.provider)


def store(
    group: str, name: str, make: Callable[[], DictConfig], package: str | None = None, provider: str | None = None
) -> None:
    """Tell Hydra of a choice of a group; ``make`` gives its config."""
    open_group(*group.split("/"))[f"{name}.yaml"] = Later(f"{name}.yaml", make, group, package, provider)
