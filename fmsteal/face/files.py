"""Reads what a job and its theft left on the disk, without changing it. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmsteal.base.errors import JobError, LedgerError, StoreError, TheftError
from fmsteal.base.store import checksum
from fmsteal.job.theft import read_sealed
from fmsteal.oracle.header import parse
from fmsteal.oracle.records import checksums, kind_of
from fmsteal.records.folders import JobFolder, TheftFolder

Arrays = dict[str, npt.NDArray[np.generic]]


def read_config(job: JobFolder) -> DictConfig:
    """A job's config: the copy kept with its result if there is one, else the file that Hydra wrote.

    Raises:
        JobError: the config is missing or damaged.
    """
    kept = job.kept / job.config.name
    file = kept if kept.is_file() else job.config
    try:
        cfg = OmegaConf.load(file)
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise JobError(f"The config of {job.path} cannot be read: {error}.") from error
    except Exception as error:  # YAML's own errors
        raise JobError(f"{file} is damaged: {error}.") from error
    if not isinstance(cfg, DictConfig):
        raise JobError(f"{file} is damaged: it holds no config.")
    return cfg


def read_arrays(job: JobFolder, result: dict[str, Any]) -> Arrays:
    """The arrays of a job's ``predictions.npz``; empty if it has no such file.

    Raises:
        StoreError: the file is missing, or does not match the checksum in the result.
    """
    file = job.predictions
    due = result.get("files", {}).get(file.name)
    if due is None and not file.is_file():
        return {}
    require_whole(file, due, "Run the job's command again: it measures what is damaged.")
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_theft(theft: TheftFolder) -> dict[str, Any]:
    """The seal of a theft.

    Raises:
        TheftError: the seal is missing or damaged.
    """
    record = read_sealed(theft.seal)
    if record is None:
        state = "damaged" if theft.seal.exists() else "missing: the theft is not sealed"
        raise TheftError(f"{theft.seal} is {state}. Run a job of this theft again: it seals it from its ledger.")
    return record


def read_ledger(theft: TheftFolder) -> Arrays:
    """The records of a ledger as arrays: ``client``, ``nth``, ``image``, ``answers``.

    Raises:
        LedgerError: the file is missing, not a ledger, or damaged.
    """
    try:
        line, _, content = theft.ledger.read_bytes().partition(b"\n")
    except OSError as error:
        raise LedgerError(f"{theft.ledger} cannot be read: {error.strerror}.") from error
    header = parse(line + b"\n")
    if header is None:
        raise LedgerError(f"{theft.ledger} has no header of a ledger: it is damaged. Put it back from a copy.")
    kind = kind_of(header.width)
    records = np.frombuffer(content, kind, len(content) // kind.itemsize)
    if (bad := np.flatnonzero(checksums(records) != records["crc"])).size:
        raise LedgerError(
            f"{theft.ledger}: {bad.size} of {len(records)} records do not match their checksum, the first is the "
            f"{bad[0] + 1}th. Put it back from a copy, or run a job of this theft again: it mends what it can."
        )
    return {
        "client": records["client"].copy(),
        "nth": records["nth"].copy(),
        "image": np.frombuffer(records["image"].tobytes(), np.uint8).reshape(len(records), 16).copy(),
        "answers": records["answer"].copy(),
    }


def require_whole(file: Path, due: str | None, mend: str) -> None:
    """Check that a file exists and has the checksum ``due``; if that is None, any content will do.

    Raises:
        StoreError: the file is missing or damaged.
    """
    if not file.is_file():
        raise StoreError(f"{file} is missing. {mend}")
    if due is not None and checksum(file) != due:
        raise StoreError(f"{file} does not match its digest: it is damaged. {mend}")
