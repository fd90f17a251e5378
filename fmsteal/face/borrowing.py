"""Uses Hydra for the length of a call, and leaves a notebook's or program's own Hydra as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fmsteal.base import on_hydra

STORED = (  # what `fmsteal.cli` changes in Hydra's store
    ("root.yaml",),
    ("sweep",),
    ("victim",),
    ("thief",),
    ("hydra", "launcher", "ray.yaml"),
    ("hydra", "sweeper", "optuna.yaml"),
)
_lock = threading.RLock()  # Hydra's state is global to the process: one call at a time uses it


@contextmanager
def borrow_hydra() -> Iterator[None]:
    """Run the block with an uninitialised Hydra that knows fmsteal's configs.

    Afterwards Hydra, its config store and its version are as they were. Calls from other threads wait.
    """
    with _lock, on_hydra.borrow(STORED):
        from fmsteal import cli

        cli.register()
        cli.forget_other_plugins()
        yield
