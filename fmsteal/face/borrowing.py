"""Hydra for the length of a call: a notebook, or a program that has a Hydra of its own, finds it as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fmsteal.base import on_hydra

STORED = (  # what `fmsteal.cli` changes of Hydra's store
    ("root.yaml",),
    ("sweep",),
    ("victim",),
    ("thief",),
    ("hydra", "launcher", "ray.yaml"),
)
_lock = threading.RLock()  # Hydra's state is the process's: one call at a time has it


@contextmanager
def borrow_hydra() -> Iterator[None]:
    """Run the block with a Hydra that nobody has initialised, and fmsteal's configs known to it.

    Afterwards Hydra is as it was, and so are its config store and its version. Calls of other threads wait.
    """
    with _lock, on_hydra.borrow(STORED):
        from fmsteal import cli

        cli.register()
        cli.forget_other_ray()
        yield
