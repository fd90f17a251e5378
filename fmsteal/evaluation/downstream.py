"""Downstream tasks: what an encoder is judged by. They are held as config nodes and made when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Task


def nodes(**sets: Any) -> Mapping[str, Any]:
    """Return tasks' config nodes by name, unchanged: the ``_target_`` of a node with ``_recursive_: false``."""
    return sets


def tasks(nodes: Mapping[str, Any], store: Store) -> dict[str, Task]:
    """Make the tasks of ``nodes``.

    Raises:
        ConfigError: one is not a task, or a head cannot be trained and judged on it.
    """
    made = {name: build.make(OmegaConf.create(node), store=store) for name, node in nodes.items()}
    for name, task in made.items():
        if not isinstance(task, Task):
            raise ConfigError(
                f"evaluation.downstream.{name} must be a task, not {type(task).__name__}: "
                f"+data@evaluation.downstream.{name}=..."
            )
        if task.train.labels is None or task.test.labels is None or not len(task.test):
            raise ConfigError(f"evaluation.downstream.{name} must have labels in both splits, and test images.")
        if len(np.unique(task.train.labels)) < 2:
            raise ConfigError(f"evaluation.downstream.{name} must have training images of at least two classes.")
    return made


def digests(nodes: Mapping[str, Any], store: Store) -> dict[str, str]:
    """Digests of the tasks' images, by task and split; errors are those of `tasks`."""
    found: dict[str, str] = {}
    for name, task in tasks(nodes, store).items():
        found |= {f"downstream {name} train": task.train.digest, f"downstream {name} test": task.test.digest}
    return found
