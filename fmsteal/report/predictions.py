"""The predictions that a job keeps, read as far as they are needed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from fmsteal.errors import StoreError

FILE = "predictions.npz"
Array = npt.NDArray[np.generic]
Triple = tuple[Array, Array, Array]  # victim, thief, label of each test image


@contextmanager
def opened(folder: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A job's predictions, whose arrays are read when they are asked for.

    Raises:
        StoreError: they are not there, or torn: also while an array is read.
    """
    file = folder / FILE
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise StoreError(f"There is no {file}.") from None
    except (BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
        raise StoreError(f"{file} cannot be read: {str(error) or type(error).__name__}") from error


def sets(arrays: np.lib.npyio.NpzFile) -> dict[str, str]:
    """The sets of images that were judged, by name, with the prefix of their arrays; "" is the task's own test set.

    Of an encoder these are ``<downstream set>`` and ``<downstream set>/<head>``.
    """
    found = [name.removesuffix("victim") for name in arrays.files if name == "victim" or name.endswith("/victim")]
    return {prefix.rstrip("/"): prefix for prefix in found}


def triple(arrays: np.lib.npyio.NpzFile, prefix: str = "") -> Triple:
    """Victim's and thief's answers and the labels, each ``(n,)``."""
    return arrays[f"{prefix}victim"], arrays[f"{prefix}thief"], arrays[f"{prefix}label"]
