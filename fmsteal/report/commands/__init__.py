"""The sub-commands that look at jobs, each a module of the same name that is imported when called.

A module's ``main`` takes the command's words, the first of which is its name. A refused command exits with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module


def main(words: Sequence[str]) -> None:
    """Run the sub-command that the first word names."""
    import_module(f"{__name__}.{words[0]}").main(words)
