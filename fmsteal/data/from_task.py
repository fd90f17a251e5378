"""Query sets taken from classification tasks: the victim's own, or any other."""

from __future__ import annotations

from typing import Any, Literal

from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images, Task


def same(task: Task, *, count: int | None = None, seed: int = 0) -> Images:
    """The victim's own distribution: training images that its subset (``data.train_count``) left out.

    Raises:
        ConfigError: the victim is trained on all of them.
    """
    if task.rest is None:
        raise ConfigError(
            "query=same asks about the training images that the victim does not see, but it sees them all. Leave some "
            "out: data.train_count=N (with data.rest_count=null, where the data set has that option)."
        )
    return task.rest.unlabelled().some(count, seed)


def other(
    store: Store,
    of: dict[str, Any],
    *,
    split: Literal["train", "test"] = "train",
    count: int | None = None,
    seed: int = 0,
) -> Images:
    """The images of any task, ``of`` (a config of the group ``data``), without their labels."""
    task: Task = build.make(OmegaConf.create(of), store=store)
    return getattr(task, split).unlabelled().some(count, seed)
