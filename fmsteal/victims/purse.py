"""A spending cap: what a call costs is reserved before it is made, among all processes that share a folder."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path

from fmsteal.base.errors import LedgerError, VictimError
from fmsteal.base.lease import lease
from fmsteal.base.store import append, explain_errors


class Purse:
    """US dollars that may be spent. Its file has a line for each reservation, and for what was given back.

    What was reserved by a process that died stays spent: the service may have charged it.
    """

    def __init__(self, file: Path, usd_per_1000: float, cap_usd: float | None) -> None:
        self.file = file
        self._price, self._cap = Decimal(str(usd_per_1000)) / 1000, None if cap_usd is None else Decimal(str(cap_usd))

    @property
    def spent(self) -> float:
        """US dollars that are reserved or spent."""
        return float(_add_up(self._read(), self.file))

    def reserve(self, images: int) -> None:
        """Reserve the price of some images; it is on the disk on return.

        Raises:
            VictimError: the cap would be passed; nothing is reserved.
            LedgerError: the file is damaged.
        """
        cost = self._price * images
        with lease(self.file, "the spending cap"):
            spent = _add_up(self._read(), self.file)
            if self._cap is not None and spent + cost > self._cap:
                raise VictimError(
                    f"The next {images} images cost {_spell(cost)} USD, and {_spell(spent)} of "
                    f"victim.cap_usd={_spell(self._cap)} are spent ({self.file}): nothing more was sent. Raise "
                    "victim.cap_usd, and the same command goes on from there."
                )
            self._write(cost)

    def give_back(self, images: int) -> None:
        """Take back the reservation of images that have certainly cost nothing."""
        if images:
            with lease(self.file, "the spending cap"):
                self._write(-self._price * images)

    def _read(self) -> bytes:
        """The whole lines. A last one that was cut short counts for nothing: its call was never made."""
        with explain_errors(self.file.parent):
            data = self.file.read_bytes() if self.file.is_file() else b""
        return data[: data.rfind(b"\n") + 1]

    def _write(self, usd: Decimal) -> None:
        whole = len(self._read())
        with explain_errors(self.file.parent):
            if self.file.is_file():
                os.truncate(self.file, whole)
            if not append(self.file, f"{usd:f}\n".encode(), whole):
                raise LedgerError(f"Another process is writing to {self.file}; this one stops before it pays.")


def _add_up(lines: bytes, file: Path) -> Decimal:
    try:
        return sum((Decimal(line) for line in lines.decode().split("\n")[:-1]), Decimal(0))
    except (InvalidOperation, UnicodeDecodeError):
        raise LedgerError(
            f"{file} is damaged: each of its lines should be an amount in US dollars. Correct it by what the service "
            "has charged; nothing was sent."
        ) from None


def _spell(usd: Decimal) -> str:
    return f"{usd.normalize():f}"
