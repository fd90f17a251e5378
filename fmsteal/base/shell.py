"""What a shell meets: sub-commands that complete, readers that leave."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

NO_READER = 141  # the exit status of whoever writes into a pipe that nobody reads, as shells count it


@contextmanager
def tolerate_closed_pipe() -> Iterator[None]:
    """Run a command; where its reader has enough, as in ``fmsteal --help | head``, nothing is said about that.

    What is printed ends the command; a job goes on, and its log goes on in its file.
    """
    logging.Handler.handleError = _ignore_reader  # type: ignore[assignment,method-assign]
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as with >&-
                sys.stdout.flush()
    except BrokenPipeError:
        if not is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(NO_READER)


def complete(line: str, commands: Collection[str]) -> tuple[list[str], str | None]:
    """What may stand where a command line ends, as far as it is ours to say.

    Args:
        line: what is typed so far, ``fmsteal`` included.
        commands: the sub-commands.

    Returns:
        The sub-commands that begin so, where the first word is typed; and the line that Hydra is to complete, None
        where folders are meant, which the shell completes itself.
    """
    words = line.split()
    typed = "" if line.endswith(" ") or len(words) < 2 else words.pop()
    if len(words) < 2:
        return [name for name in commands if name.startswith(typed)], line
    if words[1] not in commands:
        return [], line
    takes_overrides = words[1] == "evaluate" and typed and not list(Path().glob(f"{typed}*"))
    return [], f"{words[0]} {typed}" if takes_overrides else None


def is_unread() -> bool:
    """Whether nobody is left at the other end of the standard output."""
    if sys.stdout is None:
        return False
    look = select.poll()
    look.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))


_said = logging.Handler.handleError


def _ignore_reader(handler: logging.Handler, record: logging.LogRecord) -> None:
    """What a log does about a record that it cannot write: nothing where nobody reads it, else as ever."""
    if not isinstance(sys.exc_info()[1], BrokenPipeError):
        _said(handler, record)
