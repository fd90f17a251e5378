"""Query sets that are drawn, not downloaded: made once, kept in the store."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import Store, digest
from fmsteal.data.images import Images, Pixels, load, save


def load_generated(
    store: Store, name: str, render: Callable[[int, int, int], Pixels], *, count: int, size: int, seed: int
) -> Images:
    """The images of ``render(count, seed, size)``, from the store if they were drawn before.

    The source of ``render``'s module is part of the key: a changed generator draws anew.
    """
    if count < 1 or size < 1:
        raise ConfigError(f"query.count and query.size must be at least 1, not {count} and {size}.")
    source = digest(inspect.getsource(inspect.getmodule(render)))  # type: ignore[arg-type]
    spec = {"name": name, "count": count, "size": size, "seed": seed, "source": source}

    def build(out: Path, scratch: Path) -> None:
        save(out, render(count, seed, size))

    return load(store.get("images", f"{name}-{count}", spec, build))
