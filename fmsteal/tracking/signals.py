"""Warns a tracking service of a signal that ends the job, before the job's own handler acts on it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

MARKS = "marks a run as preempting"  # a thread's name
TOLD_WITHIN = 5.0  # seconds


@contextmanager
def warn_at_signal(number: signal.Signals, *tell: Callable[[], None]) -> Iterator[None]:
    """If the job has its own handler for a signal, as from submitit, call ``tell`` before that handler.

    ``tell`` runs in another thread, which is waited for `TOLD_WITHIN` seconds at most: the signal may have interrupted
    W&B itself, which would wait for the handler to end.
    """
    before = signal.getsignal(number)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def told() -> None:
        for say in tell:
            say()

    def hear(number: int, frame: FrameType | None) -> None:
        telling = threading.Thread(target=told, name=MARKS, daemon=True)
        telling.start()
        telling.join(TOLD_WITHIN)
        before(number, frame)

    signal.signal(number, hear)
    try:
        yield
    finally:
        signal.signal(number, before)
