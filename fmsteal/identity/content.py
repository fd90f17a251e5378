"""Digests of files and folders, remembered so that a thousand jobs compute them once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmsteal.base.patterns import find_base, find_files, is_pattern
from fmsteal.base.store import checksum, digest, read_json, write_json

REMEMBERED = "digests.json"  # in the cache: digests of files by path, with the size and time they had


class Contents:
    """Digests of files and folders.

    A file's digest is of its content, which is read again when its size or time changes. A folder's is of the relative
    names and sizes of the files below it, except hidden ones; a process scans it once, as long as nothing is added or
    removed directly in it.
    """

    def __init__(self, cache: Path | None = None) -> None:
        """Also remember files in the folder ``cache``, if it exists and is writable."""
        self._file = None if cache is None else cache / REMEMBERED
        self._files: dict[str, list[Any]] | None = None
        self._folders: dict[tuple[Path, int], str] = {}

    def of(self, path: str) -> str:
        """A file's or folder's digest; if the path does not exist, its last part.

        Files that are named by a pattern (`fmsteal.base.patterns`) count like a folder that holds them alone.
        """
        place = Path(path).expanduser().absolute()
        if place.is_file():
            return f"file:{self._of_file(place)}"
        if place.is_dir():
            return f"folder:{self._of_folder(place)}"
        if is_pattern(path) and (files := [file.absolute() for file in find_files(path) if file.is_file()]):
            base = find_base(path)
            named = sorted((file.relative_to(base).as_posix(), file.stat().st_size) for file in files)
            return f"folder:{digest(named)[:32]}"
        return place.name

    def _of_file(self, place: Path) -> str:
        status = place.stat()
        known = self._remembered()
        before = known.get(str(place))
        if before and before[:2] == [status.st_size, status.st_mtime_ns]:
            return str(before[2])
        found = checksum(place)[:32]
        known[str(place)] = [status.st_size, status.st_mtime_ns, found]
        self._remember(known)
        return found

    def _remembered(self) -> dict[str, list[Any]]:
        if self._files is None:
            known = self._read()
            self._files = known if isinstance(known, dict) else {}
        return self._files

    def _read(self) -> Any:
        try:
            return None if self._file is None else read_json(self._file)
        except OSError:
            return None

    def _remember(self, known: dict[str, list[Any]]) -> None:
        if self._file is None or not self._file.parent.is_dir():
            return
        others = self._read()
        try:
            write_json(self._file, {**(others if isinstance(others, dict) else {}), **known})
        except OSError:  # a read-only cache
            self._file = None

    def _of_folder(self, place: Path) -> str:
        known = (place, place.stat().st_mtime_ns)
        if known not in self._folders:
            self._folders[known] = digest(sorted(_below(place)))[:32]
        return self._folders[known]


def _below(folder: Path, prefix: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[tuple[str, int]]:
    """Relative names and sizes of the files below a folder; links back to a folder above are not followed."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as found:
        for item in found:
            if item.name.startswith("."):
                continue
            if item.is_dir():
                yield from _below(Path(item.path), f"{prefix}{item.name}/", (*above, here))
            elif item.is_file():
                yield f"{prefix}{item.name}", item.stat().st_size
