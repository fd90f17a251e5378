"""What a defense has charged, delayed, flagged and refused so far."""

from __future__ import annotations

from collections import Counter

from fmsteal.oracle.defense_log import LogRow


class Tally:
    """Sums over the rows of a defense's log, whether they are new or read from the disk."""

    def __init__(self) -> None:
        self.now = 0.0  # the simulated clock
        self._usd = 0.0
        self._refused = 0
        self._flags: Counter[str] = Counter()

    def add(self, row: LogRow) -> None:
        """Count a row."""
        self.now += row.seconds
        self._usd += row.usd
        self._refused += row.refused
        for name, value in row.flags.items():
            self._flags[name] += value  # type: ignore[assignment]

    def read(self) -> dict[str, float]:
        """The sums by their names in a result; only those that are not zero, and all flags."""
        sums = {"cost/defense_usd": self._usd, "cost/delay_seconds": self.now, "cost/refused": self._refused}
        flags = {f"cost/flags/{name}": value for name, value in sorted(self._flags.items())}
        return {name: value for name, value in sums.items() if value} | flags
