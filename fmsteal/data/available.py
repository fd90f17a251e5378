"""Checks that images are available before they are used."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from fmsteal.base.store import Store
from fmsteal.config.build import locate

Made = TypeVar("Made", bound=Callable[..., Any])
Look = Callable[..., None]


def look_with(look: Look) -> Callable[[Made], Made]:
    """Decorate a function that makes images with a check of whether it can.

    ``look`` takes any of the function's options by name, decodes nothing, and raises what the function would.
    """

    def mark(function: Made) -> Made:
        function.look = look  # type: ignore[attr-defined]
        return function

    return mark


def require_available(node: DictConfig, store: Store) -> None:
    """Check that the images of a config node are available; a target without such a check passes.

    Raises:
        DataError: the images are not available.
    """
    look: Look | None = getattr(locate(node._target_), "look", None)
    if look is None:
        return
    options: Any = OmegaConf.to_container(node, resolve=True)
    known = {"store": store, **options}
    look(**{name: known[name] for name in inspect.signature(look).parameters if name in known})
