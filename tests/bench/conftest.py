"""Ends a run of benchmarks with their table."""

from __future__ import annotations

import pytest

from tests.bench.table import ROWS, write


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's own
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section("ours and theirs")
        terminalreporter.write_line(write(ROWS))
