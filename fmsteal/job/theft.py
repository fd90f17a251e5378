"""A theft on disk: open from its first answer, sealed once its ledger accounts for every answer. Imports no torch.

A theft is found by the 16 hex digits at the end of its folder's name; what comes before them is decoration. It is kept
for good: an answer cannot be made again for nothing. ``force=true`` makes a further theft beside it (``.2``, ``.3``).
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
NAMED_BY = ".keys.json"  # in the folder of all thefts: the version of keys by which all of them are named
_NAME = re.compile(r".*-(?P<hash>[0-9a-f]{16})(?:\.(?P<number>\d+))?")
Record = dict[str, Any]


@dataclass(frozen=True)
class Theft:
    """One theft, held by this process.

    Attributes:
        folder: where it lies.
        key: of the job, ``<slug>-<hash16>``.
        identity: what the key was made from, in readable form.
        lease: the right to work on it.
    """

    folder: TheftFolder
    key: str
    identity: Mapping[str, Any]
    lease: Lease

    @property
    def account(self) -> str:
        """Whose answers its ledger says it holds: the hash of the key under which it was begun."""
        return hash_of((_known(self.folder) or {}).get("key", self.key))

    def begin(self, inputs: Mapping[str, str]) -> None:
        """Write down whose theft it is and from what content, or see that it is the same as before.

        Raises:
            DataError: other content has the same names; it is named, with the option that tells the two apart.
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
        """See that a theft that is there was begun from this content (`begin` without writing)."""
        if (before := _known(self.folder)) is not None:
            require_same(self.folder, before, inputs)

    def sealed(self) -> Record | None:
        """The record of a theft whose files are all as they were sealed; None if it is open, or damaged (a warning)."""
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
        """Whether all its answers were paid for once: none may be asked again, whatever was damaged since."""
        return read_sealed(self.folder.seal) is not None

    def _forget_curves(self) -> None:
        """They are made anew when the thief is trained again; finished jobs keep the file under names of their own."""
        if not self.folder.work.exists():  # else it is being trained again, and may go on from a checkpoint
            self.folder.curves.unlink(missing_ok=True)

    def seal(self, record: Record, thief: Sequence[Path]) -> Record:
        """Write ``theft.json``, last: it vouches for the theft's files by their digests.

        Args:
            record: what it says besides.
            thief: the files that hold the thief.

        Raises:
            LeaseLost: another process works on it by now.
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
            before = read_sealed(self.folder.seal) or {}  # of a theft that was damaged: its answers were paid for then
            paid: Record = {name: before[name] for name in ("cost", "job") if name in before}
            whole: Record = {**known, **begun, **record, **paid, "files": named, "sealed": time.time()}
            self.folder.refused.unlink(missing_ok=True)
            write_sealed(self.folder.seal, whole)
            shutil.rmtree(self.folder.work, ignore_errors=True)
        return read_sealed(self.folder.seal) or whole

    @property
    def unaccounted(self) -> int:
        """Answers by which its ledger was found to be wrong when it was refused; no later run can account for them."""
        refused = read_json(self.folder.refused)
        return int(refused.get("unaccounted", 0)) if isinstance(refused, dict) else 0

    def refuse(self, why: str, unaccounted: int = 0) -> TheftError:
        """Write down why the theft is not sealed; returns the error to raise. Its ledger stays."""
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
    """Find the theft of a job, or begin it, and hold it: one process at a time does.

    Args:
        root: the folder of all thefts.
        key: of the job.
        identity: what the key was made from.
        own: the theft that this job was working on, if it was.
        anew: begin a further one beside those that are there, unless ``own`` says which it is.
        patience: seconds to wait for a process that holds it; None waits as long as it takes.
        seconds: after which a holder on another host that is not heard of is replaced.

    Raises:
        LeaseBusy: another process still holds it after that time.
        TheftError: the folder of that name holds another theft.
    """
    folder = choose(root, key, identity, own, anew)
    with explain_errors(folder.path), lease(folder.lease, f"theft {folder.path.name}", seconds, patience) as claim:
        _require_own(folder, identity)
        yield Theft(folder, key, identity, claim)


def choose(
    root: Path, key: str, identity: Mapping[str, Any], own: Path | None = None, anew: bool = False
) -> TheftFolder:
    """Where a job's theft is, or will be: see `hold`. Of several the latest sealed one is taken."""
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
    """Whether a theft of the job is sealed, as far as its files' being there tells."""
    return bool(_sealed(root, list_numbered(root).get(hash_of(key), {})))


def _sealed(root: Path, there: Mapping[int, str]) -> list[int]:
    return [number for number, name in there.items() if TheftFolder(root / name).seal.exists()]


_listed: dict[Path, tuple[int, dict[str, dict[int, str]]]] = {}


def list_numbered(root: Path) -> dict[str, dict[int, str]]:
    """The thefts below a folder: names by hash and number. Read again only when the folder has changed."""
    try:
        stamp = root.stat().st_mtime_ns
    except FileNotFoundError:
        return {}
    known = _listed.get(root)
    if known is not None and known[0] == stamp and time.time_ns() - stamp > 10**9:  # a file system's clock is coarse
        return known[1]
    found: dict[str, dict[int, str]] = {}
    for entry in os.scandir(root):
        if (name := _NAME.fullmatch(entry.name)) and not entry.name.startswith("."):
            found.setdefault(name["hash"], {})[int(name["number"] or 1)] = entry.name
    _listed[root] = stamp, found
    return found


def find_damage(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files of a folder that a record vouches for."""
    found = []
    for name, known in record.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif checksum(file) != known:
            found.append(f"{name} does not match its digest")
    return found


def read_sealed(file: Path) -> Record | None:
    """A JSON file that carries its own digest; None if it is missing, or not what was written."""
    record = read_json(file)
    if not isinstance(record, dict) or record.pop("seal", None) != digest(record):
        return None
    return record


def write_sealed(file: Path, record: Mapping[str, Any]) -> None:
    """Write JSON with its own digest, so that a flipped bit in it is seen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**record, "seal": digest(dict(record))})


def require_same(folder: TheftFolder, before: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
    """See that a theft was begun from the content that is there now.

    Raises:
        DataError: it was not.
    """
    known = before.get("inputs", {})
    changed = sorted(name for name in inputs if name in known and known[name] != inputs[name])
    if changed:
        raise DataError(
            f"{folder.path} was begun with other content under the same names ({', '.join(changed)}). It is kept. To "
            "steal from the content that is there now, tell the two apart: edition=2 (any text; it is part of the key)."
        )


def _require_own(folder: TheftFolder, identity: Mapping[str, Any]) -> None:
    """See that a folder of this name holds this theft: the hash alone is 64 bits of it."""
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
    """What is known of a theft since it was begun; its seal says so too."""
    return read_sealed(folder.begun) or read_sealed(folder.seal)


def _require_readable(folder: TheftFolder, record: Mapping[str, Any]) -> None:
    if record.get("schema", 0) > SCHEMA:
        raise TheftError(
            f"{folder.seal} was written by a newer fmsteal (schema {record['schema']}, this one reads {SCHEMA}). "
            "Upgrade fmsteal, or choose another output folder: output=..."
        )


def _rekeyed(root: Path, key: str, identity: Mapping[str, Any]) -> Path | None:
    """A theft that an earlier way of making keys named otherwise, found by its whole identity, under its new name.

    A note beside the thefts says when none has such a name any more, so that they are not all read for each new key.
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
