"""Reads the predictions that a job keeps, as far as they are needed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import FmstealError, StoreError
from fmsteal.records.folders import JobFolder

MOST_CLASSES = 2**20
Array = npt.NDArray[np.generic]
Triple = tuple[Array, Array, Array]  # victim, thief, label of each test image


@contextmanager
def open_predictions(folder: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A job's predictions, whose arrays are read on access.

    Raises:
        StoreError: they do not exist, or are torn; also raised while an array is read.
    """
    file = JobFolder(folder).predictions
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise StoreError(f"There is no {file}.") from None
    except FmstealError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise StoreError(f"{file} cannot be read: {str(error) or type(error).__name__}") from error


def list_sets(arrays: np.lib.npyio.NpzFile) -> dict[str, str]:
    """The prefix of each judged image set's arrays, by the set's name; "" is the task's own test set.

    For an encoder the names are ``<downstream set>`` and ``<downstream set>/<head>``.
    """
    members = arrays.zip.namelist() if arrays.zip is not None else []
    own = {name.removesuffix(".npy") for name in members if name.endswith(".npy")}  # other members are not arrays
    found = [name.removesuffix("victim") for name in arrays.files if name in own and f"/{name}".endswith("/victim")]
    return {prefix.rstrip("/"): prefix for prefix in found}


def load_triple(arrays: np.lib.npyio.NpzFile, prefix: str = "") -> Triple:
    """Victim's and thief's answers and the labels, each ``(n,)``."""
    return arrays[f"{prefix}victim"], arrays[f"{prefix}thief"], arrays[f"{prefix}label"]


def load_labels(arrays: np.lib.npyio.NpzFile, prefix: str = "") -> Triple:
    """Like `load_triple`, but only classes that can be counted: whole numbers from 0.

    Raises:
        StoreError: they are not.
    """
    found = load_triple(arrays, prefix)
    whole = all(part.dtype.kind in "iu" and part.ndim == 1 for part in found)
    if not whole or len({len(part) for part in found}) > 1:
        raise StoreError(f"{prefix or 'test'}: its answers and labels are not one whole number for each image.")
    if len(found[2]) and not 0 <= int(found[2].min()) <= int(found[2].max()) < MOST_CLASSES:
        raise StoreError(f"{prefix or 'test'}: its labels run from {found[2].min()} to {found[2].max()}.")
    return found
