"""The image files below a folder, and what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.base.errors import DataError

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp",
    ".avif",
})  # fmt: skip
UNREAD = frozenset({
    ".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".exr", ".hdr", ".dcm",
})  # fmt: skip
SPECIAL = "no plain file"  # a pipe, a socket, a device: opening one can block for ever
_NO_IMAGES = {"__MACOSX"}  # what archives made on a Mac bring along


@dataclass(frozen=True)
class FoundFiles:
    """What was found below a folder.

    Attributes:
        names: names of the image files, relative to the folder (``a/b.png``), sorted part by part.
        skipped: number of other files, by ending.
    """

    names: Sequence[str]
    skipped: Mapping[str, int]

    @property
    def unread(self) -> dict[str, int]:
        """The skipped files that are pictures, or may be."""
        return {ending: count for ending, count in self.skipped.items() if ending in UNREAD}


def find_images(root: Path) -> FoundFiles:
    """All image files below a folder, at any depth, links followed, hidden files and folders left out.

    Only plain files count, and broken links, which fail when they are read. Names are strings, not paths, because each
    run of a job lists tens of thousands of files.

    Raises:
        DataError: the folder does not exist, holds no image, or has a folder below it that cannot be listed.
    """
    if not root.is_dir():
        raise DataError(f"There is no image folder {root}. Give an existing one: data.root=/path or query.root=/path.")
    found: list[tuple[str, ...]] = []
    skipped: Counter[str] = Counter()
    seen: set[str] = set()

    def walk(folder: str, above: tuple[str, ...]) -> None:
        if (real := os.path.realpath(folder)) in seen:
            return
        seen.add(real)
        below = []
        for item in list_folder(folder):
            if item.is_dir():
                below.append(item)
            elif not is_plain(item):
                skipped[SPECIAL] += 1
            elif is_image(item.name):
                found.append((*above, item.name))
            else:
                skipped[_ending(item.name) or "no ending"] += 1
        for item in below:
            walk(item.path, (*above, item.name))

    walk(str(root), ())
    if not found:
        there = f" It holds {spell(skipped)}." if skipped else ""
        raise DataError(f"The folder {root} holds no images ({', '.join(sorted(SUFFIXES))}).{there}")
    return FoundFiles(["/".join(parts) for parts in sorted(found)], skipped)


def list_folder(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The items in a folder, sorted by name, without hidden ones.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda item: item.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be listed ({error.strerror}).") from error
    return (item for item in found if not item.name.startswith(".") and item.name not in _NO_IMAGES)


def is_plain(item: os.DirEntry[str]) -> bool:
    """Whether an item is a file or a broken link, not a pipe, socket or device."""
    return item.is_file() or (item.is_symlink() and not os.path.exists(item.path))  # noqa: PTH110


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image."""
    return _ending(name) in SUFFIXES


def spell(counts: Mapping[str, int]) -> str:
    """Counts by ending in words: ``3 .txt, 1 .heic``; the most frequent first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(most) - 10} other kinds" if len(most) > 10 else ""
    return ", ".join(f"{count} {ending}" for ending, count in most[:10]) + more


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122
