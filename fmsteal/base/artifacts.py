"""What lies in a store, however it came to lie there, and how it is removed. Imports no torch."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmsteal.base.errors import LeaseBusy, StoreError
from fmsteal.base.lease import LEASE_SECONDS, is_held, lease
from fmsteal.base.rows import SPEC, open_chunk
from fmsteal.base.store import MANIFEST, STAMP, TEMPORARY, explain_errors, find_fault, read_json

SCRATCH, DAMAGED, LEASES = "scratch", "damaged", "leases"
NOTES = {TEMPORARY, SCRATCH, DAMAGED, LEASES, "prepared", "used_by"}  # folders of a store that hold no artifacts
HALF = "half-written"
ROWS = (".npy", ".npz")
PRESENT = 3600.0  # seconds within which a temporary folder may still be written by a process that holds no lease


@dataclass(frozen=True)
class Artifact:
    """A folder in a store.

    Attributes:
        kind: ``victims``, ``features``, ...
        path: where it is.
        size: bytes of its files.
        used: when it was last used, in seconds since 1970: made, opened by a job, or added to.
        fault: what is wrong with it; "" if nothing is, as far as was looked.
        spec: what it was made from, if that is recorded.
        lease: the marker of the lease under which it is made.
        published: whether it has its final name, so that jobs may find it.
    """

    kind: str
    path: Path
    size: int
    used: float
    fault: str
    spec: dict[str, Any]
    lease: Path
    published: bool = True

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def is_being_made(self) -> bool:
        """Whether a process holds the right to make it."""
        return is_held(self.lease)


def require_store(root: Path) -> None:
    """Check that a folder is a store.

    Raises:
        StoreError: it is not; the message names it.
    """
    if not root.is_dir():
        raise StoreError(f"There is no cache {root}. Name the folder that jobs use: fmsteal cache outputs/cache.")
    if not (root / STAMP).is_file() and not any((root / name).is_dir() for name in NOTES):
        raise StoreError(f"{root} is no cache: it has no {STAMP}. A cache is outputs/cache, or what cache=/path named.")


def list_artifacts(root: Path, checksums: bool = False) -> list[Artifact]:
    """All that lies in a store, by kind and name; with ``checksums``, every file is read and compared."""
    found = []
    with explain_errors(root):
        for kind in _folders(root):
            if kind.name not in NOTES:
                found += [_look(root, kind.name, place, checksums) for place in _folders(kind)]
        for kind in _folders(root / SCRATCH):
            found += [_look_at_remains(root, kind.name, place, f"{HALF}: checkpoints") for place in _folders(kind)]
        for place in _folders(root / TEMPORARY):  # <kind>-<name>-<random>
            built = place.name.lstrip(".").rpartition("-")[0]
            found.append(_look_at_remains(root, built.partition("-")[0], place, HALF, root / LEASES / built))
        for place in _folders(root / DAMAGED):
            kind_name = place.name.partition("-")[0]
            found.append(_look_at_remains(root, kind_name, place, "damaged, and set aside", root / LEASES / place.name))
    return found


def _look(root: Path, kind: str, place: Path, checksums: bool) -> Artifact:
    manifest = read_json(place / MANIFEST)
    if isinstance(manifest, dict):
        fault, spec = find_fault(place, checksums) or "", manifest.get("spec")
        fault = f"damaged: {fault}" if fault else ""
    elif _holds_rows(place):
        fault, spec = _fault_of_rows(place, checksums), read_json(place / SPEC)
    else:
        fault, spec = f"damaged: no readable {MANIFEST}", None
    known = spec if isinstance(spec, dict) else {}
    return Artifact(
        kind, place, _size(place), place.stat().st_mtime, fault, known, root / LEASES / f"{kind}-{place.name}"
    )


def _look_at_remains(root: Path, kind: str, place: Path, fault: str, marker: Path | None = None) -> Artifact:
    marker = marker or root / LEASES / f"{kind}-{place.name}"
    return Artifact(kind, place, _size(place), _last_written(place), fault, {}, marker, published=False)


def _holds_rows(place: Path) -> bool:
    return any(file.suffix in (*ROWS, ".damaged") for file in place.iterdir())


def _fault_of_rows(place: Path, checksums: bool) -> str:
    """What is wrong with a folder of rows: chunks without an index, set aside before, or damaged."""
    names = {file.name for file in place.iterdir()}
    found = [
        f"{HALF}: {sum(n.endswith('.npy') and f'{n[:-4]}.npz' not in names for n in names)} chunks",
        f"damaged: {sum(n.endswith('.npy.damaged') for n in names)} chunks set aside",
        f"damaged: {sum(_is_damaged(place / n) for n in names if n.endswith('.npz')) if checksums else 0} chunks",
    ]
    return "; ".join(said for said in found if ": 0 " not in said)


def _is_damaged(index: Path) -> bool:
    try:
        open_chunk(index)
    except Exception:  # a damaged file can fail in many ways
        return True
    return False


def _size(place: Path) -> int:
    return sum(file.lstat().st_size for file in place.rglob("*") if file.is_file() or file.is_symlink())


def _last_written(place: Path) -> float:
    return max((file.lstat().st_mtime for file in (place, *place.rglob("*"))), default=0.0)


def _folders(place: Path) -> Iterator[Path]:
    try:
        yield from sorted(item for item in place.iterdir() if item.is_dir())
    except FileNotFoundError:
        return


def remove(root: Path, artifact: Artifact) -> str:
    """Remove an artifact, unless a process makes it or has used it since it was listed.

    It is renamed first: who looks for it meanwhile finds all of it or nothing.

    Returns:
        Why it was left; "" if it is gone.
    """
    if not artifact.published and time.time() - artifact.used < PRESENT and artifact.path.parent.name == TEMPORARY:
        return "a process may be writing it"
    try:
        with explain_errors(root), lease(artifact.lease, artifact.name, LEASE_SECONDS, patience=0.0):
            if not artifact.path.is_dir():
                return ""
            now = artifact.path.stat().st_mtime if artifact.published else _last_written(artifact.path)
            if now > artifact.used:
                return "it was used a moment ago"
            (root / TEMPORARY).mkdir(exist_ok=True)
            aside = root / TEMPORARY / f".{artifact.kind}-{artifact.name}-{secrets.token_hex(4)}"
            artifact.path.rename(aside)
    except LeaseBusy:
        return "a running process holds its lease"
    shutil.rmtree(aside, ignore_errors=True)
    return ""
