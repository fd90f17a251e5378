"""Where a process waits to be told to end, so that a signal hits it exactly there. Imports nothing heavy."""

from __future__ import annotations

import os
import time
from pathlib import Path

SECONDS = 120.0  # after which a process that nobody stops fails by itself


def hold(place: str) -> None:
    """Stay here for long, if it is the place that HOLD names; the file HELD then holds the process's number.

    HOW=deaf swallows whatever is raised meanwhile.
    """
    if os.environ.get("HOLD") != place:
        return
    Path(os.environ["HELD"]).write_text(str(os.getpid()))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:
            if os.environ.get("HOW") != "deaf":
                raise
    raise RuntimeError(f"nobody has stopped it in {place}")
