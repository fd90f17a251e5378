"""Training curves: an epoch's means are sent to the run's tracker, also from processes that only train."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.loggers.logger import Logger

from fmsteal.base.progress import Progress
from fmsteal.tracking.base import Tracker

POINTS = 100  # points of a curve against queries
SPENT = "attack/queries", "attack/usd"  # the x axis and the y axis of that curve


class Curves:
    """Sends an epoch's means to the run's tracker, named ``<stage>/<metric>``, and shows the training's progress."""

    def __init__(self, tracker: Tracker, progress: Progress, stage: str, epochs: int) -> None:
        self.tracker, self.progress, self.stage, self.epochs = tracker, progress, stage, epochs

    def __call__(self, metrics: dict[str, float], epoch: int) -> None:
        """Log the means of ``epoch`` (from 1)."""
        self.tracker.log({f"{self.stage}/{k}": v for k, v in metrics.items()}, x=(f"{self.stage}/epoch", float(epoch)))
        if "loss" in metrics:
            self.progress.update(f"train {self.stage}", epoch, self.epochs, f"loss {metrics['loss']:.4f}")

    @contextmanager
    def relay(self) -> Iterator[Relay]:
        """Yield an object that a training process can call in place of these curves, which live in this process.

        What these curves raise is raised at the end: meanwhile training continues, and must not wait for a full queue.
        """
        relay = Relay()
        failed: list[Exception] = []

        def receive() -> None:
            while (message := relay.queue.get()) is not None:
                try:
                    if not failed:
                        self(*message)
                except Exception as error:  # from a tracker: whatever a full disk or a service raises
                    failed.append(error)

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        try:
            yield relay
        finally:
            relay.queue.put(None)
            receiver.join()
        if failed:
            raise failed[0]


class Spending:
    """Sends the cost of the queries to the run's tracker, at no more than `POINTS` fixed points of the budget.

    The points do not depend on how the queries come in, nor on where a run was interrupted.
    """

    def __init__(self, tracker: Tracker, usd: Callable[[int], float], before: int = 0) -> None:
        """``before``: queries that an interrupted run has paid for and logged."""
        self.tracker, self.usd, self._before = tracker, usd, before

    def __call__(self, used: int, allowed: int) -> None:
        """Log the points up to ``used`` of ``allowed`` queries that have not been logged yet."""
        for at in sorted({-(-number * allowed // POINTS) for number in range(1, POINTS + 1)}):
            if self._before < at <= used:
                self.tracker.log({SPENT[1]: self.usd(at)}, x=(SPENT[0], float(at)))
        self._before = max(self._before, used)


class Relay:
    """Carries an epoch's means from a training process to the job's own."""

    def __init__(self) -> None:
        self.queue = torch.multiprocessing.get_context("spawn").SimpleQueue()

    def __call__(self, metrics: dict[str, float], epoch: int) -> None:
        """Send the means of ``epoch``."""
        self.queue.put((metrics, epoch))


class EpochLogger(Logger):
    """Passes an epoch's means on. ``receive`` must be picklable, to reach a training process."""

    def __init__(self, stage: str, receive: Callable[[dict[str, float], int], None]) -> None:
        super().__init__()
        self.stage, self.receive = stage, receive

    @property
    def name(self) -> str:
        """The stage."""
        return self.stage

    @property
    def version(self) -> str:
        """Not used."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the resolved config is logged once, by the run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Pass on the means of epoch ``step`` (from 1)."""
        if step is not None and metrics:
            self.receive(metrics, step)
