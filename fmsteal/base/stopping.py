"""Ctrl-C and SIGTERM end a command once, in order, soon, and with all processes that it has started.

What runs is interrupted by `Stopped`. On its way out leases, files and W&B's run are closed. What has not ended after
`PATIENCE` seconds, or when the command is told a second time, is killed. Imports nothing heavy.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fmsteal.base.process_tree import Processes, children, descendants, kill, terminate
from fmsteal.base.quoting import spell_command

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
PATIENCE = 3.0  # seconds for an end in order
WORKERS_PATIENCE = 1.5  # of them for that of workers
ECHO = 0.3  # seconds in which a second signal is the same one: `timeout` sends it to the process and to its group
READING = (
    "status",
    "results",
    "report",
    "compare",
    "verify",
    "dashboard",
    "export",
)  # commands that leave nothing to go on with
MULTIRUN = {"-m", "--multirun"}


class Stopped(BaseException):
    """A command is told to end. No `Exception`, and no `SystemExit` of a job: nothing failed, and nothing goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {NAMES[signal.Signals(number)]}")
        self.number = number

    @property
    def code(self) -> int:
        """The exit status, as shells count it: 130 or 143."""
        return 128 + self.number


@contextmanager
def run_command(words: Sequence[str]) -> Iterator[None]:
    """Run the command of these words in the block; told to end, it says how to continue and exits with 130 or 143.

    Raises:
        SystemExit: it was told to end, however it took that.
    """
    if _watch is not None or not _in_main_thread():
        yield
        return
    watch = _Watch(_continuing(words))
    try:
        watch.listen()
        yield
    except BaseException as error:
        if watch.told is None and isinstance(error, KeyboardInterrupt):
            watch.note(signal.SIGINT)
        if watch.told is None:
            raise
    finally:
        if watch.told is None:
            watch.close()
    if watch.told is not None:
        watch.say()
        sys.exit(watch.told.code)  # the watch goes on until the process has ended


@contextmanager
def run_worker() -> Iterator[None]:
    """Do a command's job in a process of its own; told to end, the job is left and the process ends, at once."""
    if _watch is not None or not _in_main_thread():
        yield
        return
    watch = _Watch()
    try:
        watch.listen()
        yield
    finally:
        if watch.told is None:
            watch.close()
        else:
            watch.leave()


def was_told() -> Stopped | None:
    """Whether this process was told to end."""
    return None if _watch is None else _watch.told


def check() -> None:
    """Begin nothing new in a process that was told to end, even if something has swallowed its `Stopped`.

    Raises:
        Stopped: it was.
    """
    if (stopped := was_told()) is not None:
        raise stopped


@contextmanager
def heed() -> Iterator[None]:
    """Let nothing that comes out of the block pass for an error, once the process was told to end.

    Raises:
        Stopped: in place of what libraries make of it, or of the interrupt.
    """
    check()
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if _watch is not None and isinstance(error, KeyboardInterrupt):
            _watch.note(signal.SIGINT)
        if (stopped := was_told()) is not None:
            raise stopped from error
        raise


def insist() -> None:
    """Take back the signals from a library that has put its own handlers in place of these."""
    if _watch is not None and _in_main_thread():
        _watch.listen()


@contextmanager
def postpone() -> Iterator[None]:
    """Do something whole, by other programs too: a signal that comes meanwhile counts afterwards."""
    watch = _watch
    if watch is None or not _in_main_thread():
        yield
        return
    watch.postponed += 1
    try:
        with _alone_with_the_terminal():
            yield
    finally:
        watch.postponed -= 1
        if not watch.postponed and watch.told is not None:
            watch.interrupt()


@contextmanager
def run_workers() -> Iterator[None]:
    """Have jobs done by processes that are started in the block. Of Ctrl-C this one alone hears, and it ends them.

    Those that are about to start would answer it with a traceback.
    """
    watch = _watch
    if watch is None or not _in_main_thread():
        yield
        return
    watch.has_workers = True
    try:
        with _alone_with_the_terminal():
            yield
    finally:
        watch.has_workers = False


@contextmanager
def _alone_with_the_terminal() -> Iterator[None]:
    """Let processes that are started in the block not hear the Ctrl-C that a terminal sends to all of them.

    They inherit that this thread does not; the watching thread hears it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _continuing(words: Sequence[str]) -> str:
    """How to go on with a command; a sweep does not do again what it has done. Nothing for commands that only read."""
    if words and words[0] in READING:
        return ""
    if MULTIRUN.intersection(words):
        words = [word for word in words if not word.startswith("force=")]
    return f"Continue with: {spell_command(['fmsteal', *words])}"


class _Watch:
    """Hears the signals of this process: by handlers, and by a thread for a process that is too busy to run these."""

    def __init__(self, line: str = "") -> None:
        global _watch
        self.told: Stopped | None = None
        self.postponed = 0
        self.has_workers = False
        self._line, self._said, self._raised = line, False, False
        self._started: Processes = {}
        self._before: dict[int, Any] = {n: signal.getsignal(n) for n in NAMES}
        self._numbers = [n for n, handler in self._before.items() if handler is not signal.SIG_IGN]  # as nohup does
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._woken = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._look, name="signals", daemon=True)
        self._thread.start()
        atexit.register(self._leave_at_exit)
        _watch = self

    def listen(self) -> None:
        """Handle the signals."""
        for number in self._numbers:
            signal.signal(number, self._hear)

    def close(self, here: bool = True) -> None:
        """Give the signals back."""
        global _watch
        _watch = None
        for number in self._numbers:
            signal.signal(number, self._before[number])
        signal.set_wakeup_fd(self._woken if here else -1)
        atexit.unregister(self._leave_at_exit)
        if here:  # a forked process has the pipe of the other one, and no thread
            os.write(self._write, b"\0")
            self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def note(self, number: int) -> None:
        """Remember that the process was told to end, and by what."""
        if self.told is None:
            self.told = Stopped(number)

    def interrupt(self) -> None:
        """Interrupt what runs, once.

        Raises:
            Stopped: the first time.
        """
        if self._raised or self.told is None:
            return
        self._raised = True
        _silence()
        if self.has_workers:
            terminate(children(os.getpid()), WORKERS_PATIENCE)
        raise self.told

    def say(self) -> None:
        """Tell once that it ends, and how to go on. It needs no lock that what was interrupted may hold."""
        if self._said or self.told is None or not self._line:
            return
        self._said = True
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # a display that was cut off has hidden it
        with suppress(OSError):
            os.write(2, f"{cursor}fmsteal: {self.told}. {self._line}\n".encode())

    def leave(self) -> None:
        """End the processes that this one has started, and this one. To clear its memory first would take seconds."""
        terminate(self._started | descendants(os.getpid()), 1.0)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.told.code if self.told else 1)

    def _leave_at_exit(self) -> None:
        """Registered before all others, and so the last of what is done at the end of the process."""
        if self.told is not None:
            self.leave()

    def _hear(self, number: int, frame: object) -> None:
        self.note(number)
        if not self.postponed:
            self.interrupt()

    def _look(self) -> None:
        """Kill the process when its time is over, or when it is told again."""
        began: float | None = None
        while True:
            left = None if began is None else max(0.0, began + PATIENCE - time.monotonic())
            if not select.select([self._read], [], [], left)[0]:
                return self._kill()
            numbers = os.read(self._read, 64)
            if 0 in numbers:
                return
            ours = [n for n in numbers if n in self._numbers]
            if began is None and ours:
                began = time.monotonic()
                self.note(ours[0])
                self._started = descendants(os.getpid())  # whose parents may be gone in the end
            elif began is not None and ours and time.monotonic() - began > ECHO:
                return self._kill()

    def _kill(self) -> None:
        kill(self._started | descendants(os.getpid()))
        self.say()
        os._exit(self.told.code if self.told else 1)


_watch: _Watch | None = None


def _forget() -> None:
    """In a process that was forked: signals to it are not the command's."""
    if _watch is not None:
        with suppress(ValueError):  # forked by another thread than the main one
            _watch.close(here=False)


os.register_at_fork(after_in_child=_forget)


def _silence() -> None:
    """Let nobody complain of an end that is wanted: threads of libraries do, whose processes are gone."""
    threading.excepthook = lambda about: None
    sys.unraisablehook = lambda about: None
    warnings.simplefilter("ignore")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
