"""Content-addressed artifacts: ``<root>/<kind>/<slug>-<hash16>/``. Imports no torch.

An artifact is a folder, named by the hash of an explicit *spec*. It is built in a temporary folder and renamed into
place, so a folder that exists is complete. A lease keeps two processes from building the same thing at once; it only
saves work: whoever loses it finishes anyway, and the first rename wins.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from fmsteal.base.errors import StoreError
from fmsteal.base.lease import LEASE_SECONDS, lease

log = logging.getLogger(__name__)

SCHEMA = 1
MANIFEST = "manifest.json"
TEMPORARY = "temporary"  # folder of artifacts being built
STAMP = "cache.json"  # at the root of a store: the version that wrote it
HASHED_WHOLE = 256 * 2**20  # files above this many bytes are hashed in 64 blocks of 1 MiB, spread over the file
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST}

Builder = Callable[[Path, Path], None]


class Store:
    """Artifacts under one root folder, shared by every job (and host) that names it."""

    def __init__(
        self,
        root: Path | str,
        tell: Callable[[str, int, int], None] = lambda what, done, of: None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Open the store at ``root``.

        ``tell`` receives a builder's progress (what, done, of how many). A builder on another host whose heartbeat is
        missing for ``lease_seconds`` is replaced; all jobs that share a store must use the same value.
        """
        self.root = Path(root).absolute()
        self.tell = tell
        self.lease_seconds = lease_seconds
        self.spent: dict[str, float] = {}  # seconds that this object has spent on building, by kind

    def path(self, kind: str, slug: str, spec: Mapping[str, Any]) -> Path:
        """Where the artifact with this spec is, or will be."""
        return self.root / kind / f"{slug}-{digest(spec)[:16]}"

    def get(self, kind: str, slug: str, spec: Mapping[str, Any], build: Builder) -> Path:
        """Return the folder of the artifact, building it first if it is missing or damaged.

        ``build(out, scratch)`` writes the artifact's files into ``out``. ``scratch`` outlives a killed process: a
        builder keeps its checkpoints there and finds them again; it is removed once the artifact is published.

        Raises:
            StoreError: the store cannot be written (read-only, disk full, written by a newer version).
        """
        place = self.path(kind, slug, spec)
        with explain_errors(self.root):
            require_readable(self.root)
            note_use(place)  # before it is checked: what is about to be used is not pruned
            whole = place.is_dir() and find_fault(place) is None
            while not whole:
                with lease(self.root / "leases" / f"{kind}-{place.name}", f"{kind} {place.name}", self.lease_seconds):
                    # the process we waited for may have built it
                    whole = self._sound(place) or self._build(kind, place, spec, build)
        return place

    def _build(self, kind: str, place: Path, spec: Mapping[str, Any], build: Builder) -> bool:
        """Build and publish; False if that failed because another process took this one for dead and took over."""
        scratch = self.root / "scratch" / kind / place.name
        scratch.mkdir(parents=True, exist_ok=True)
        for stale in (self.root / TEMPORARY).glob(f"{escape(f'{kind}-{place.name}')}-*"):  # left by a killed process
            # Renamed first: if its owner is alive after all, it finds either all of its files gone, or none.
            with suppress(FileNotFoundError):
                shutil.rmtree(stale.rename(stale.with_name(f".old-{stale.name}")), ignore_errors=True)
        with self.temporary(kind, place.name) as out:
            mine, began = out.stat().st_ino, time.monotonic()
            try:
                build(out, scratch)
                if _is_folder(out, mine):
                    took = time.monotonic() - began
                    self.spent[kind] = self.spent.get(kind, 0.0) + took
                    seal(out, spec, took)
                    publish(out, place)
            except Exception:
                if _is_folder(out, mine) and not place.is_dir():
                    raise
                log.warning("another process has taken over %s %s from this one, which was too slow", kind, place.name)
        if whole := place.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        return whole

    @contextmanager
    def temporary(self, kind: str, name: str = "chunk") -> Iterator[Path]:
        """Yield a private folder on the store's file system; afterwards it is removed.

        It does not lie among the artifacts, where each one would make the search for stale folders slower.
        """
        (self.root / TEMPORARY).mkdir(parents=True, exist_ok=True)
        if not (self.root / STAMP).exists():
            write_json(self.root / STAMP, {"fmsteal": "cache", "schema": SCHEMA})
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-{name}-", dir=self.root / TEMPORARY))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _sound(self, place: Path) -> bool:
        """True if the artifact exists and is undamaged; a damaged one is set aside with a warning. Needs the lease."""
        if not place.is_dir():
            return False
        fault = find_fault(place)
        if fault is None:
            return True
        aside = self.root / "damaged" / f"{place.parent.name}-{place.name}-{time.time_ns()}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.rename(aside)
        except FileNotFoundError:  # another process set it aside first
            return False
        shutil.rmtree(self.root / "scratch" / place.parent.name / place.name, ignore_errors=True)  # may share files
        log.warning("%s is damaged (%s): set aside as %s, making it again", place, fault, aside)
        return False


def note_use(place: Path) -> None:
    """Note that an artifact is used now: the time of its folder, which no reader changes, says when it last was."""
    with suppress(OSError):  # not there, or another user's
        os.utime(place)


def seal(folder: Path, spec: Mapping[str, Any], seconds: float | None = None) -> None:
    """Write the manifest: the spec, and the size and checksum of every file. The files reach the disk first.

    ``seconds`` is what building it has taken, in the process that finished it.
    """
    files = {}
    umask = _umask()
    folder.chmod(0o777 & ~umask)  # temporary folders and some writers deny others access; a cache is shared
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        path.chmod(0o666 & ~umask)
        sync(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
    took = {} if seconds is None else {"seconds": round(seconds, 2)}
    write_json(folder / MANIFEST, {"schema": SCHEMA, "spec": spec, "files": files, **took})


def publish(folder: Path, place: Path) -> None:
    """Rename a finished folder into place; if another process was first, its folder stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    else:
        sync(place.parent)


@contextmanager
def explain_errors(root: Path) -> Iterator[None]:
    """Turn file system errors below ``root`` into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise StoreError(
                f"No space left while writing under {root} ({error.strerror}). Nothing half-written was kept. "
                "Free some space and run the same command again, or put the cache elsewhere: cache=/path."
            ) from error
        place, own = Path(str(error.filename)).absolute(), root.absolute()
        ours = error.filename is None or place.is_relative_to(own) or own.is_relative_to(place)
        if error.errno in _REFUSED and ours:
            raise _not_writable(root, error) from error
        raise


def require_writable(root: Path) -> None:
    """Refuse a folder that cannot be created or written, without creating anything.

    Raises:
        StoreError: `root` cannot be created or written.
    """
    try:
        nearest = next(p for p in (root.absolute(), *root.absolute().parents) if os.path.lexists(p))
        if nearest.is_symlink() and not nearest.exists():
            raise StoreError(
                f"Cannot write under {root}: {nearest} is a link to {nearest.readlink()}, which is not there. Make "
                "that folder, remove the link, or choose another place: output=/path for everything, cache=/path for "
                "the cache alone."
            )
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise _not_writable(root, error) from error


def require_readable(root: Path) -> None:
    """Refuse a store written by a newer fmsteal. A store without a stamp is new, or predates stamps.

    Raises:
        StoreError: a newer fmsteal wrote the store.
    """
    with explain_errors(root):
        stamp = read_json(root / STAMP)
    schema = stamp.get("schema", 0) if isinstance(stamp, dict) else 0
    if schema > SCHEMA:
        raise _newer(root, schema)


def _newer(what: Path, schema: int) -> StoreError:
    return StoreError(
        f"{what} was written by a newer fmsteal (schema {schema}, this one reads {SCHEMA}). "
        "Upgrade fmsteal, or use another cache: cache=/path."
    )


def _not_writable(root: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write under {root} ({error.strerror}: {error.filename or root}). Make it writable, or choose "
        "another place: output=/path for everything, cache=/path for the cache alone."
    )


def digest(spec: Any) -> str:
    """The SHA-256 of a JSON-like value in canonical form (sorted keys), as 64 hex digits."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file's content; for a very large file, of its size and 64 evenly spread blocks."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if size <= HASHED_WHOLE:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        total = hashlib.sha256(str(size).encode())
        for block in range(64):
            stream.seek((size - 2**20) * block // 63)
            total.update(stream.read(2**20))
        return f"sampled:{total.hexdigest()}"


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")  # hosts may share a folder
    try:
        with temporary.open("w") as stream:
            json.dump(value, stream, indent=2, sort_keys=True)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a short text, completely or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    fresh.write_text(text)
    sync(fresh)
    fresh.replace(path)


def append(path: Path, data: bytes, size: int) -> bool:
    """Append to a file that is ``size`` bytes long; the data is on the disk when this returns, or not there at all.

    Returns:
        True if nobody else has written to the file. If somebody did before, nothing is appended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as stream:  # no buffer that would be flushed after a failure
        if stream.tell() != size:
            return False
        try:
            written = 0
            while written < len(data):
                written += stream.write(data[written:])
            os.fsync(stream.fileno())
        except OSError:
            os.truncate(path, size)
            raise
        alone = os.fstat(stream.fileno()).st_size == size + len(data)
    if size == 0:
        sync(path.parent)  # the new file's name too
    return alone


def link_or_copy(source: Path, target: Path) -> None:
    """Give a write-once file a second name: a hard link, or a copy where links are not supported."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        os.link(source, fresh)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, fresh)
        sync(fresh)
    fresh.replace(target)


def is_there(path: Path) -> bool:
    """Whether a path exists; False if it may not be looked at, or is not a valid path."""
    return os.path.exists(path)  # noqa: PTH110  # this one never raises


def read_json(path: Path) -> Any:
    """Read JSON; None if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, RecursionError):
        return None


def find_fault(place: Path, checksums: bool = True) -> str | None:
    """What is wrong with a published artifact; None if nothing is. Without ``checksums`` no file is read."""
    manifest = read_json(place / MANIFEST)
    if not isinstance(manifest, dict) or "files" not in manifest:
        return f"no readable {MANIFEST}"
    if manifest.get("schema", 0) > SCHEMA:
        raise _newer(place, manifest["schema"])
    for name, known in manifest["files"].items():
        path = place / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != known["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, not {known['bytes']}"
        if checksums and checksum(path) != known["sha256"]:
            return f"{name} does not match its checksum"
    return None


def _is_folder(path: Path, inode: int) -> bool:
    """Whether ``path`` is still the folder with this inode."""
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Make sure that a file's (or folder's) content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
