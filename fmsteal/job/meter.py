"""The cost of a theft in time and in the victim's forward passes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base.store import read_json, write_json

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


PREPARATION = "preparation"  # beside the cost: seconds of it until the victim was there


class Meter:
    """Adds up the cost over the runs of an interrupted theft, to the second.

    Attributes:
        victim: the victim whose forward passes are counted.
        prepared: seconds until it was there, over all runs; None as long as it is not.
    """

    def __init__(self, path: Path) -> None:
        self.victim: Victim | None = None
        self.prepared: float | None = None
        self._path = path
        known = read_json(path)
        self._before: dict[str, float] = known if isinstance(known, dict) else {}
        self._began = self._saved = time.monotonic()

    def read(self) -> dict[str, float]:
        """``cost/seconds`` and ``cost/victim_forwards`` (images that the victim computed, except for measurements)."""
        seconds = self._before.get("cost/seconds", 0.0) + time.monotonic() - self._began
        forwards = self._before.get("cost/victim_forwards", 0)
        if self.victim is not None:
            forwards += sum(n for purpose, n in self.victim.calls.computed.items() if purpose != "measurement")
        return {"cost/seconds": round(seconds, 2), "cost/victim_forwards": forwards}

    def start_attack(self, victim: Victim) -> None:
        """Note that the victim is ready, and after how many seconds; its forward passes are counted from here on."""
        self.victim = victim
        self.prepared = round(self._before.get(PREPARATION, 0.0) + time.monotonic() - self._began, 2)

    def save(self) -> None:
        """Save the figures, at most once a second, for a run that continues if this one is killed."""
        if time.monotonic() - self._saved >= 1.0:
            self._saved = time.monotonic()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            known = {} if self.prepared is None else {PREPARATION: self.prepared}
            write_json(self._path, {**self.read(), **known})
