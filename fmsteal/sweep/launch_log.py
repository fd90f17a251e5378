"""What a launcher logs: a line for each job it is given, which of a large stage nobody reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 20  # jobs of a stage that are listed one by one when they are launched
LOGGERS = (  # those of Hydra's basic launcher, of the plugins, and of our own
    "hydra._internal.core_plugins.basic_launcher",
    "hydra_plugins.hydra_joblib_launcher._core",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "fmsteal.sweep.on_ray",
)
log = logging.getLogger(__name__)


@contextmanager
def shorten(jobs: int, first: str) -> Iterator[None]:
    """Launch a stage of ``jobs`` jobs in the block; if they are many, one line stands for the lines of all.

    ``first`` is the first job's overrides. What ends is shown by the display of the sweep, what fails is logged.
    """
    if jobs <= MOST:
        yield
        return
    log.info("%d jobs, the first of them: %s", jobs, first)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_is_no_job)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(_is_no_job)


def _is_no_job(record: logging.LogRecord) -> bool:
    """Whether a record is not the line of a single job."""
    return not record.getMessage().lstrip().startswith("#")
