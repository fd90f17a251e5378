"""The sub-commands that look at jobs: a module each, of that name, imported when it is called.

A module's ``main`` takes the command's words, of which the first is its name; what is refused ends it with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module


def main(words: Sequence[str]) -> None:
    """Run a sub-command, whose name is the first word."""
    import_module(f"{__name__}.{words[0]}").main(words)
