"""A theft on disk: open from its first answer, sealed once its ledger accounts for every answer. Imports no torch.

A theft is found by the 16 hex digits at the end of its folder's name; what comes before them is decoration. It is kept
for good: its answers would cost money again. ``force=true`` makes a further theft beside it (``.2``, ``.3``).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmsteal.base.errors import DataError, TheftError
from fmsteal.base.lease import LEASE_SECONDS, Lease, lease
from fmsteal.base.store import checksum, digest, explain_errors, read_json, sync, write_json
from fmsteal.identity.keys import KEY_VERSION, hash_of
from fmsteal.records.folders import TheftFolder

log = logging.getLogger(__name__)

SCHEMA = 1
NAMED_BY = ".keys.json"  # in the folder of all thefts: the key version that names all of them
_NAME = re.compile(r".*-(?P<hash>[0-9a-f]{16})(?:\.(?P<number>\d+))?")
Record = dict[str, Any]


@dataclass(frozen=True)
class Theft:
    """One theft, held by this process.

    Attributes:
        folder: the theft's folder.
        key: key of the job, ``<slug>-<hash16>``.
        identity: what the key was made from, in readable form.
        lease: the right to work on the theft.
    """

    folder: TheftFolder
    key: str
    identity: Mapping[str, Any]
    lease: Lease

    @property
    def account(self) -> str:
        """The account that its ledger names: the hash of the key under which the theft was begun."""
        return hash_of((_known(self.folder) or {}).get("key", self.key))

    def begin(self, inputs: Mapping[str, str]) -> None:
        """Record whose theft it is and from what content, or check that both are the same as before.

        Raises:
            DataError: the content has changed under the same names; the message names it, and the option that helps.
        """
        self.require_content(inputs)
        if read_sealed(self.folder.begun) is not None:
            return
        if self.folder.begun.exists():
            log.warning("%s is damaged: it is written again", self.folder.begun)
        before = _known(self.folder) or {"key": self.key, "key_version": KEY_VERSION, "inputs": dict(inputs)}
        kept = {name: before[name] for name in ("key", "key_version", "inputs")}
        with explain_errors(self.folder.path):
            write_sealed(self.folder.begun, {"schema": SCHEMA, "identity": self.identity, **kept})

    def require_content(self, inputs: Mapping[str, str]) -> None:
        """Check that an existing theft was begun from this content (`begin` without writing)."""
        if (before := _known(self.folder)) is not None:
            require_same(self.folder, before, inputs)

    def sealed(self) -> Record | None:
        """The record of a sealed theft with undamaged files; None if it is open, or damaged (with a warning)."""
        record = read_sealed(self.folder.seal)
        if record is None:
            if self.folder.seal.exists():
                log.warning("%s is damaged: the theft is sealed again from its ledger", self.folder.seal)
                self._forget_curves()
            return None
        _require_readable(self.folder, record)
        if damaged := find_damage(self.folder.path, record):
            log.warning(
                "%s: damaged (%s). The thief is trained again from the answers that were paid for; none is asked again",
                self.folder.path,
                ", ".join(damaged),
            )
            self._forget_curves()
            return None
        return record

    @property
    def was_sealed(self) -> bool:
        """Whether all its answers were once paid for; none may be asked again, even after damage."""
        return read_sealed(self.folder.seal) is not None

    def _forget_curves(self) -> None:
        """Remove the curves, which will be written again with the thief; finished jobs keep the file by other names."""
        if not self.folder.work.exists():  # else it is being trained again, and may continue from a checkpoint
            self.folder.curves.unlink(missing_ok=True)

    def seal(self, record: Record, thief: Sequence[Path]) -> Record:
        """Write ``theft.json`` last, with the digests of the theft's files.

        Args:
            record: further content of ``theft.json``.
            thief: the files that hold the thief.

        Raises:
            LeaseLost: another process has taken over the theft.
        """
        self.lease.require()
        own = (self.folder.begun, self.folder.ledger, self.folder.defense_log, self.folder.curves, *thief)
        with explain_errors(self.folder.path):
            files = [file for file in own if file.is_file()]
            for file in files:
                sync(file)
            named = {file.relative_to(self.folder.path).as_posix(): checksum(file) for file in files}
            known = {"schema": SCHEMA, "key": self.key, "key_version": KEY_VERSION, "identity": self.identity}
            begun: Record = read_sealed(self.folder.begun) or {}
            before = read_sealed(self.folder.seal) or {}  # a damaged theft's answers were paid for by an earlier job
            paid: Record = {name: before[name] for name in ("cost", "job") if name in before}
            whole: Record = {**known, **begun, **record, **paid, "files": named, "sealed": time.time()}
            self.folder.refused.unlink(missing_ok=True)
            write_sealed(self.folder.seal, whole)
            shutil.rmtree(self.folder.work, ignore_errors=True)
        return read_sealed(self.folder.seal) or whole

    @property
    def unaccounted(self) -> int:
        """How many answers its ledger was off by when it was refused; no later run can account for them."""
        refused = read_json(self.folder.refused)
        return int(refused.get("unaccounted", 0)) if isinstance(refused, dict) else 0

    def refuse(self, why: str, unaccounted: int = 0) -> TheftError:
        """Record why the theft is not sealed, and return the error to raise. Its ledger stays."""
        said = (
            f"{why} The theft is refused and not sealed; its answers are kept in {self.folder.ledger}. Mend what asked "
            "in this way and run the same command: it goes on from them. Where they can no longer be accounted for, "
            "force=true makes a further theft beside this one."
        )
        with explain_errors(self.folder.path):
            write_json(self.folder.refused, {"key": self.key, "why": why, "unaccounted": unaccounted})
        return TheftError(said)


@contextmanager
def hold(
    root: Path,
    key: str,
    identity: Mapping[str, Any],
    own: Path | None = None,
    anew: bool = False,
    patience: float | None = None,
    seconds: float = LEASE_SECONDS,
) -> Iterator[Theft]:
    """Find or begin the theft of a job and hold it, one process at a time.

    Args:
        root: the folder of all thefts.
        key: key of the job.
        identity: what the key was made from.
        own: the theft that this job was already working on, if any.
        anew: begin a further theft beside existing ones, unless ``own`` is given.
        patience: seconds to wait for a process that holds the theft; None waits as long as it takes.
        seconds: seconds without a heartbeat after which a holder on another host is replaced.

    Raises:
        LeaseBusy: another process still holds the theft after ``patience`` seconds.
        TheftError: the folder of that name holds another theft.
    """
    folder = choose(root, key, identity, own, anew)
    with explain_errors(folder.path), lease(folder.lease, f"theft {folder.path.name}", seconds, patience) as claim:
        _require_own(folder, identity)
        yield Theft(folder, key, identity, claim)


def choose(
    root: Path, key: str, identity: Mapping[str, Any], own: Path | None = None, anew: bool = False
) -> TheftFolder:
    """Where a job's theft is or will be, see `hold`. If there are several, the latest sealed one is taken."""
    wanted = hash_of(key)
    if own is not None and (name := _NAME.fullmatch(own.name)) and name["hash"] == wanted:
        return TheftFolder(root / own.name)
    there = list_numbered(root).get(wanted, {})
    if not there and (moved := _rekeyed(root, key, identity)) is not None:
        there = {1: moved.name}
    if not there:
        return TheftFolder(root / key)
    latest = max(there)
    if anew:
        first = re.sub(r"\.\d+$", "", there[latest]) if latest > 1 else there[latest]
        return TheftFolder(root / f"{first}.{latest + 1}")
    return TheftFolder(root / there[max(_sealed(root, there), default=latest)])


def is_sealed(root: Path, key: str) -> bool:
    """Whether a theft of the job is sealed, judged only by whether the seal's file exists."""
    return bool(_sealed(root, list_numbered(root).get(hash_of(key), {})))


def _sealed(root: Path, there: Mapping[int, str]) -> list[int]:
    return [number for number, name in there.items() if TheftFolder(root / name).seal.exists()]


_listed: dict[Path, tuple[int, dict[str, dict[int, str]]]] = {}


def list_numbered(root: Path) -> dict[str, dict[int, str]]:
    """Names of the thefts below a folder, by hash and number. Read again only when the folder has changed."""
    try:
        stamp = root.stat().st_mtime_ns
    except FileNotFoundError:
        return {}
    known = _listed.get(root)
    if known is not None and known[0] == stamp and time.time_ns() - stamp > 10**9:  # file system clocks are coarse
        return known[1]
    found: dict[str, dict[int, str]] = {}
    for entry in os.scandir(root):
        if (name := _NAME.fullmatch(entry.name)) and not entry.name.startswith("."):
            found.setdefault(name["hash"], {})[int(name["number"] or 1)] = entry.name
    _listed[root] = stamp, found
    return found


def find_damage(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files whose digests a record holds: a list of messages."""
    found = []
    for name, known in record.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif checksum(file) != known:
            found.append(f"{name} does not match its digest")
    return found


def read_sealed(file: Path) -> Record | None:
    """Read a JSON file that holds its own digest; None if it is missing or does not match."""
    record = read_json(file)
    if not isinstance(record, dict) or record.pop("seal", None) != digest(record):
        return None
    return record


def write_sealed(file: Path, record: Mapping[str, Any]) -> None:
    """Write JSON with its own digest, so that a flipped bit is noticed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**record, "seal": digest(dict(record))})


def require_same(folder: TheftFolder, before: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    """Check that a theft was begun from the current content.

    Raises:
        DataError: the content has changed.
    """
    known = before.get("inputs", {})
    changed = sorted(name for name in inputs if name in known and known[name] != inputs[name])
    if changed:
        raise DataError(
            f"{folder.path} was begun with other content under the same names ({', '.join(changed)}). It is kept. To "
            "steal from the content that is there now, tell the two apart: edition=2 (any text; it is part of the key)."
        )


def _require_own(folder: TheftFolder, identity: Mapping[str, Any]) -> None:
    """Check that the folder holds this very theft, as its name has only a 64-bit hash of the identity."""
    for file in (folder.begun, folder.seal):
        record = read_sealed(file)
        if record is not None and record.get("identity") != identity:
            theirs, ours = record.get("identity", {}), identity
            parts = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
            raise TheftError(
                f"{folder.path} holds a theft of another identity ({', '.join(parts)} differ). Choose another output "
                "folder (output=...), or move that folder away."
            )


def _known(folder: TheftFolder) -> Record | None:
    """What was recorded when the theft was begun, which its seal repeats."""
    return read_sealed(folder.begun) or read_sealed(folder.seal)


def _require_readable(folder: TheftFolder, record: Mapping[str, Any]) -> None:
    if record.get("schema", 0) > SCHEMA:
        raise TheftError(
            f"{folder.seal} was written by a newer fmsteal (schema {record['schema']}, this one reads {SCHEMA}). "
            "Upgrade fmsteal, or choose another output folder: output=..."
        )


def _rekeyed(root: Path, key: str, identity: Mapping[str, Any]) -> Path | None:
    """Find a theft named by an earlier key version, by its whole identity, and rename it; None if there is none.

    A note beside the thefts records when none has an old name any more, so that not all are read for each new key.
    """
    note, others = root / NAMED_BY, False
    if read_json(note) == KEY_VERSION or not root.is_dir():
        return None
    for names in list_numbered(root).values():
        for name in names.values():
            record = _known(TheftFolder(root / name)) or {}
            if record.get("key_version", KEY_VERSION) == KEY_VERSION:
                continue
            others = True
            if record.get("identity") != identity:
                continue
            try:
                return (root / name).rename(root / key)
            except OSError:  # another process was first
                return root / key if (root / key).is_dir() else None
    if not others:
        with explain_errors(root):
            write_json(note, KEY_VERSION)
    return None
