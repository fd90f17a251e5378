"""A stage of many jobs has one line where it is launched, whatever launches it."""

from __future__ import annotations

import importlib
import logging
from importlib.util import find_spec

import pytest

from fmsteal.sweep import launch_log
from fmsteal.sweep.launch_log import LOGGERS, MOST, shorten


@pytest.mark.parametrize("jobs", [MOST, MOST + 1, 1000])
def test_many_jobs_are_one_line_and_a_few_are_listed(jobs: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in LOGGERS:
        caplog.clear()
        with shorten(jobs, "seed=0"):
            log = logging.getLogger(name)
            log.info("Launching %d jobs", jobs)
            for number in range(jobs):
                log.info("\t#%d : seed=%d", number, number)
        said = caplog.messages
        if jobs <= MOST:
            assert len(said) == 1 + jobs
        else:
            assert said == [f"{jobs} jobs, the first of them: seed=0", f"Launching {jobs} jobs"]
        logging.getLogger(name).info("\t#0 : afterwards")
        assert caplog.messages[-1] == "\t#0 : afterwards"


def test_launchers_log_under_the_names_that_are_known() -> None:
    for name in LOGGERS:
        if find_spec(name.partition(".")[0]) is None or (name.startswith("hydra_plugins") and not _is_there(name)):
            continue
        module = importlib.import_module(name)
        assert module.log.name == name  # type: ignore[attr-defined]
    assert launch_log.log.name not in LOGGERS


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
