"""The command line that is being run, for code called through Hydra, which passes on only the overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from fmsteal.base.quoting import spell_command

REPEATED = ("force=", "quiet=")  # left out of the command that continues
_words: ContextVar[tuple[str, ...]] = ContextVar("words of the command line", default=())


@contextmanager
def record_words(words: Sequence[str]) -> Iterator[None]:
    """Record, for the block, the words of the command line after ``fmsteal``."""
    before = _words.set(tuple(words))
    try:
        yield
    finally:
        _words.reset(before)


def spell_continuing() -> str:
    """The command that continues the one being run, as one would type it."""
    return spell_command(["fmsteal", *(word for word in _words.get() if not word.startswith(REPEATED))])
