"""What a shell meets: sub-commands that complete, errors without Hydra's lines around them, readers that leave."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal import utils
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException

NO_READER = 141  # the exit status of whoever writes into a pipe that nobody reads, as shells count it
FULL_ERROR = "HYDRA_FULL_ERROR"


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
        if not _is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(NO_READER)


def print_errors_alone() -> None:
    """Let Hydra print an error that is written for a person as it is.

    Hydra would put ``Error executing job with overrides`` before it, and behind it how to see a stack trace. With
    HYDRA_FULL_ERROR=1, and of an error that nobody has expected, it prints all that it knows, as ever.
    """
    given, reported = JobReturn.return_value, utils.run_and_report
    if getattr(reported, "alone", False):
        return

    def value(job: JobReturn) -> Any:
        if job.status is JobStatus.FAILED and isinstance(job._return_value, CompactHydraException) and not _full():
            raise job._return_value
        return given.fget(job)  # type: ignore[attr-defined]

    def report(call: Callable[[], Any]) -> Any:
        def alone() -> Any:
            try:
                return call()
            except CompactHydraException as error:
                if _full() or not str(error).startswith("fmsteal:"):
                    raise
                print(error, file=sys.stderr)
                sys.exit(1)
            except BrokenPipeError:
                if _is_unread():  # Hydra would print a stack trace
                    sys.exit(NO_READER)
                raise

        return reported(alone)

    report.alone = True  # type: ignore[attr-defined]
    JobReturn.return_value = property(value, given.fset)  # type: ignore[assignment,attr-defined]
    utils.run_and_report = report  # type: ignore[assignment]


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


_said = logging.Handler.handleError


def _ignore_reader(handler: logging.Handler, record: logging.LogRecord) -> None:
    """What a log does about a record that it cannot write: nothing where nobody reads it, else as ever."""
    if not isinstance(sys.exc_info()[1], BrokenPipeError):
        _said(handler, record)


def _is_unread() -> bool:
    """Whether nobody is left at the other end of the standard output."""
    if sys.stdout is None:
        return False
    look = select.poll()
    look.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0))


def _full() -> bool:
    return os.environ.get(FULL_ERROR) == "1"
