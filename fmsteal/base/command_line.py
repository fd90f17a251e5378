"""The command line that is being run, for what is called through Hydra, which hands on overrides and no words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from fmsteal.base.quoting import spell_command

REPEATED = ("force=", "quiet=")  # to continue is not to redo
_words: ContextVar[tuple[str, ...]] = ContextVar("words of the command line", default=())


@contextmanager
def record_words(words: Sequence[str]) -> Iterator[None]:
    """Run the command line of these words, which follow ``fmsteal``, in the block."""
    before = _words.set(tuple(words))
    try:
        yield
    finally:
        _words.reset(before)


def spell_continuing() -> str:
    """The command that goes on with the one that is being run, as one would type it."""
    return spell_command(["fmsteal", *(word for word in _words.get() if not word.startswith(REPEATED))])
