"""Ctrl-C and SIGTERM end a command once, cleanly, soon, and with all processes that it has started.

`Stopped` interrupts whatever is running; as it propagates, leases, files and W&B's run are closed. Anything still
running after `PATIENCE` seconds, or at a second signal, is killed. Imports nothing heavy.
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
PATIENCE = 3.0  # seconds for a clean end
WORKERS_PATIENCE = 1.5  # seconds of `PATIENCE` that workers get
ECHO = 0.3  # seconds in which a repeated signal counts as one: `timeout` signals the process and its group
READING = (
    "status",
    "results",
    "report",
    "compare",
    "verify",
    "dashboard",
    "export",
    "serve",
)  # commands that leave nothing to continue
MULTIRUN = {"-m", "--multirun"}


class Stopped(BaseException):
    """A command is told to end. Neither an `Exception` nor a job's `SystemExit`: nothing failed or continues."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {NAMES[signal.Signals(number)]}")
        self.number = number

    @property
    def code(self) -> int:
        """The exit status, as shells count it: 130 or 143."""
        return 128 + self.number


@contextmanager
def run_command(words: Sequence[str]) -> Iterator[None]:
    """Run a command in the block; if told to end, print how to continue it and exit with 130 or 143.

    Raises:
        SystemExit: the command was told to end, whatever the block made of that.
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
        sys.exit(watch.told.code)  # the watch continues until the process has ended


@contextmanager
def run_worker() -> Iterator[None]:
    """Run one job of a command in its own process; if told to end, leave the job and end the process at once."""
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
    """The `Stopped` of this process if it was told to end, else None."""
    return None if _watch is None else _watch.told


def check() -> None:
    """Start nothing new in a process that was told to end, even if something has swallowed its `Stopped`.

    Raises:
        Stopped: this process was told to end.
    """
    if (stopped := was_told()) is not None:
        raise stopped


@contextmanager
def heed() -> Iterator[None]:
    """Replace any exception from the block by `Stopped`, once the process was told to end.

    Raises:
        Stopped: in place of the interrupt, or of what a library turned it into.
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
    """Reinstall the signal handlers after a library has replaced them with its own."""
    if _watch is not None and _in_main_thread():
        _watch.listen()


@contextmanager
def postpone() -> Iterator[None]:
    """Run the block to its end, including programs it starts; a signal that arrives meanwhile takes effect after it."""
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
    """Run jobs in processes started in the block. Only this process receives Ctrl-C, and it ends the others.

    Processes that are just starting would print a traceback.
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
    """Shield processes started in the block from the Ctrl-C that a terminal sends to all processes.

    They inherit this thread's signal mask, which blocks it; the watching thread still receives it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _continuing(words: Sequence[str]) -> str:
    """How to continue a command; a sweep is not forced to redo finished jobs. Empty for commands that only read."""
    if words and words[0] in READING:
        return ""
    if MULTIRUN.intersection(words):
        words = [word for word in words if not word.startswith("force=")]
    return f"Continue with: {spell_command(['fmsteal', *words])}"


class _Watch:
    """Receives this process's signals: by handlers, and by a thread in case the process is too busy to run them."""

    def __init__(self, line: str = "") -> None:
        global _watch
        self.told: Stopped | None = None
        self.postponed = 0
        self.has_workers = False
        self._line, self._said, self._raised = line, False, False
        self._started: Processes = {}
        self._before: dict[int, Any] = {n: signal.getsignal(n) for n in NAMES}
        # signals that are already ignored, as under nohup, stay ignored
        self._numbers = [n for n, handler in self._before.items() if handler is not signal.SIG_IGN]
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._woken = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._look, name="signals", daemon=True)
        self._thread.start()
        atexit.register(self._leave_at_exit)
        _watch = self

    def listen(self) -> None:
        """Install the signal handlers."""
        for number in self._numbers:
            signal.signal(number, self._hear)

    def close(self, here: bool = True) -> None:
        """Restore the previous signal handlers."""
        global _watch
        _watch = None
        for number in self._numbers:
            signal.signal(number, self._before[number])
        signal.set_wakeup_fd(self._woken if here else -1)
        atexit.unregister(self._leave_at_exit)
        if here:  # a forked process has its parent's pipe, and no thread
            os.write(self._write, b"\0")
            self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def note(self, number: int) -> None:
        """Remember that the process was told to end, and by which signal."""
        if self.told is None:
            self.told = Stopped(number)

    def interrupt(self) -> None:
        """Interrupt whatever is running, once.

        Raises:
            Stopped: on the first call after a signal.
        """
        if self._raised or self.told is None:
            return
        self._raised = True
        _silence()
        if self.has_workers:
            terminate(children(os.getpid()), WORKERS_PATIENCE)
        raise self.told

    def say(self) -> None:
        """Print once that the command ends, and how to continue. It takes no lock that interrupted code may hold."""
        if self._said or self.told is None or not self._line:
            return
        self._said = True
        cursor = "\x1b[?25h" if os.isatty(2) else ""  # an interrupted display may have hidden it
        with suppress(OSError):
            os.write(2, f"{cursor}fmsteal: {self.told}. {self._line}\n".encode())

    def leave(self) -> None:
        """End this process and those it has started, without clearing its memory, which would take seconds."""
        terminate(self._started | descendants(os.getpid()), 1.0)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.told.code if self.told else 1)

    def _leave_at_exit(self) -> None:
        """Leave if told to end. Registered first, so it runs last at the end of the process."""
        if self.told is not None:
            self.leave()

    def _hear(self, number: int, frame: object) -> None:
        self.note(number)
        if not self.postponed:
            self.interrupt()

    def _look(self) -> None:
        """Kill the process when its time is up, or at a second signal."""
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
                self._started = descendants(os.getpid())  # now, as their parents may be gone later
            elif began is not None and ours and time.monotonic() - began > ECHO:
                return self._kill()

    def _kill(self) -> None:
        kill(self._started | descendants(os.getpid()))
        self.say()
        os._exit(self.told.code if self.told else 1)


_watch: _Watch | None = None


def _forget() -> None:
    """Stop watching in a forked process: its signals are not the command's."""
    if _watch is not None:
        with suppress(ValueError):  # not forked by the main thread
            _watch.close(here=False)


os.register_at_fork(after_in_child=_forget)


def _silence() -> None:
    """Silence complaints about an intended end, as from library threads whose processes are gone."""
    threading.excepthook = lambda about: None
    sys.unraisablehook = lambda about: None
    warnings.simplefilter("ignore")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
