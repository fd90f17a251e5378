"""What becomes of images that cannot be read: refused by name, or passed over and counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from fmsteal.base.errors import DataError
from fmsteal.data.decode import describe_first_fault

log = logging.getLogger(__name__)
Broken = Literal["error", "skip"]


def account_for(
    faults: dict[int, str],
    names: Sequence[object],
    broken: Broken,
    of: str = "image file",
    mend: str = "Remove them",
) -> None:
    """Refuse images that cannot be decoded, or pass over them with a warning.

    Args:
        faults: what is wrong, by place.
        names: the name of every place.
        broken: ``error``, or ``skip`` (counted in a warning).
        of: what an image is called here.
        mend: what to do about them, for the error.

    Raises:
        DataError: some cannot be decoded, or with ``skip`` none can.
    """
    if not faults:
        return
    first = describe_first_fault(faults, names)
    if len(faults) == len(names):
        raise DataError(f"None of {len(names)} {of}s can be decoded, first {first}.")
    if broken == "error":
        raise DataError(
            f"{len(faults)} {of}(s) cannot be decoded, first {first}. {mend}, or pass over them: "
            "data.broken=skip (query.broken=skip)."
        )
    log.warning("%d %s(s) that cannot be decoded were passed over, first %s", len(faults), of, first)
