"""The cost of a theft in time and in the victim's forward passes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base.store import read_json, write_json

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


MAKING = "making"  # beside the cost: seconds of it that went into making the victim


class Meter:
    """Adds up the cost over the runs of an interrupted theft, to the second.

    Attributes:
        victim: the victim whose forward passes are counted.
        making: seconds that went into making it, over all runs: 0 if another job has made it.
    """

    def __init__(self, path: Path) -> None:
        self.victim: Victim | None = None
        self._path = path
        known = read_json(path)
        self._before: dict[str, float] = known if isinstance(known, dict) else {}
        self.making = self._before.get(MAKING, 0.0)
        self._began = self._saved = time.monotonic()

    def read(self) -> dict[str, float]:
        """``cost/seconds`` and ``cost/victim_forwards`` (images that the victim computed, except for measurements)."""
        seconds = self._before.get("cost/seconds", 0.0) + time.monotonic() - self._began
        forwards = self._before.get("cost/victim_forwards", 0)
        if self.victim is not None:
            forwards += sum(n for purpose, n in self.victim.calls.computed.items() if purpose != "measurement")
        return {"cost/seconds": round(seconds, 2), "cost/victim_forwards": forwards}

    def start_attack(self, victim: Victim, making: float) -> None:
        """Note the victim and the seconds that making it has taken; its forward passes are counted from here on."""
        self.victim, self.making = victim, round(self.making + making, 2)

    def save(self) -> None:
        """Save the figures, at most once a second, for a run that continues if this one is killed."""
        if time.monotonic() - self._saved >= 1.0:
            self._saved = time.monotonic()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {**self.read(), MAKING: self.making})
