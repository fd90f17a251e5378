"""Configs in Hydra's store that are made when they are first needed.

Every command lists sweep presets and derived choices but hardly ever uses one; making all of them would take a tenth of
its start-up time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.config_store import ConfigNode
from omegaconf import DictConfig

from fmsteal.base.on_hydra import open_group


class Later(ConfigNode):
    """A node of the store that makes its config when it is first needed, or when it is pickled."""

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
    """Add a choice of a group to Hydra's store; ``make`` returns its config."""
    open_group(*group.split("/"))[f"{name}.yaml"] = Later(f"{name}.yaml", make, group, package, provider)
