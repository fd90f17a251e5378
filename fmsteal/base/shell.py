"""What a shell needs: completion of sub-commands, and a quiet end when a pipe's reader closes it."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

NO_READER = 141  # exit status, as shells count it, of a process that writes into a pipe that nobody reads


@contextmanager
def tolerate_closed_pipe() -> Iterator[None]:
    """Run a command without complaint if its reader closes the pipe, as in ``fmsteal --help | head``.

    A command that prints ends; a job continues, and so does its log file.
    """
    logging.Handler.handleError = _ignore_reader  # type: ignore[assignment,method-assign]
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # it is None with >&-
                sys.stdout.flush()
    except BrokenPipeError:
        if not is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(NO_READER)


def complete(line: str, commands: Collection[str]) -> tuple[list[str], str | None]:
    """Complete the end of a command line, as far as that is not left to Hydra or the shell.

    Args:
        line: the text typed so far, including ``fmsteal``.
        commands: the sub-commands.

    Returns:
        The sub-commands that match while the first word is being typed, and the line for Hydra to complete, or None
        where a folder is expected, which the shell completes itself.
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
    """Whether nobody reads the standard output any more."""
    if sys.stdout is None:
        return False
    look = select.poll()
    look.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))


_said = logging.Handler.handleError


def _ignore_reader(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Handle a log record that cannot be written: ignore it if nobody reads the output, else report it as usual."""
    if not isinstance(sys.exc_info()[1], BrokenPipeError):
        _said(handler, record)
