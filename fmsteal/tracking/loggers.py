"""What trackers have in common that send to one of Lightning's loggers. Lightning is imported when a run is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from fmsteal.base.errors import ConfigError
from fmsteal.tracking.base import CsvTracker, RunInfo
from fmsteal.tracking.columns import spell_figures

log = logging.getLogger(__name__)


def require_package(tracker: str, package: str) -> None:
    """Check that a tracker's package is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"tracker={tracker} needs {package}, which is not installed: pip install 'fmsteal[{tracker}]'."
        )


class LoggerTracker(CsvTracker):
    """Sends curves and figures to a Lightning logger, and writes curves to the CSV file.

    The x of a curve is its step there. Where the service fails midway, the job goes on with the CSV file alone.
    """

    def __init__(self, info: RunInfo, logger: Any) -> None:
        super().__init__(info.folder, info.curves)
        self.info, self.logger = info, logger
        self._lost = False

    def log(self, metrics: Mapping[str, float], x: tuple[str, float]) -> None:
        """Add a point to each curve."""
        super().log(metrics, x)
        self.send(metrics, x[1])

    def send(self, metrics: Mapping[str, float], x: float) -> None:
        """Send points of curves."""
        self.attempt(lambda: self.logger.log_metrics(spell_figures(metrics), step=round(x)))

    def attempt(self, do: Callable[[], object]) -> None:
        """Do something with the service, unless it has failed before."""
        if self._lost:
            return
        try:
            do()
        except Exception as error:  # a network, a database, a disk: whatever its client raises
            self._lost = True
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("the tracker has failed (%s): from here on the curves are in metrics.csv alone", reason)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Close the logger when the block ends; its run counts as failed if the block raises."""
        status = "failed"
        try:
            yield
            status = "success"
        finally:
            self.attempt(lambda: self.logger.finalize(status))
