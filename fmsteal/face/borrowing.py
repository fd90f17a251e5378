"""Hydra for the length of a call: a notebook, or a program that has a Hydra of its own, finds it as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase

STATE = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # what Hydra keeps of a run
STORED = (("root.yaml",), ("sweep",), ("hydra", "launcher", "ray.yaml"))  # what `fmsteal.cli` changes of its store
_ABSENT: Any = object()
_lock = threading.RLock()  # Hydra's state is the process's: one call at a time has it


@contextmanager
def borrow_hydra() -> Iterator[None]:
    """Run the block with a Hydra that nobody has initialised, and fmsteal's configs known to it.

    Afterwards Hydra is as it was, and so are its config store and its version. Calls of other threads wait.
    """
    with _lock:
        Plugins.instance()  # before: what plug-ins add to the store stays there
        state = {kind: Singleton._instances.pop(kind, None) for kind in STATE}
        stored = {path: _folder(path).pop(path[-1], _ABSENT) for path in STORED}
        try:
            from fmsteal import cli

            cli.register()
            cli.forget_other_ray()
            yield
        finally:
            for kind, instance in state.items():
                Singleton._instances.pop(kind, None)
                if instance is not None:
                    Singleton._instances[kind] = instance
            for path, node in stored.items():
                _folder(path).pop(path[-1], None)
                if node is not _ABSENT:
                    _folder(path)[path[-1]] = node


def _folder(path: tuple[str, ...]) -> dict[str, Any]:
    """The group of Hydra's config store that holds a node."""
    found: dict[str, Any] = ConfigStore.instance().repo
    for part in path[:-1]:
        found = found.setdefault(part, {})
    return found
