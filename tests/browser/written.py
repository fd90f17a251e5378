"""A study and the page written of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fmsteal.report.read.study import Study


@dataclass(frozen=True)
class Written:
    """A study and its page."""

    study: Study
    file: Path
