"""Where the images of tar archives lie, found once by reading headers and kept: an image is then read by its offset."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, read_json, write_json
from fmsteal.data.broken import Broken, log
from fmsteal.data.images import Labels
from fmsteal.data.label_texts import number_labels
from fmsteal.data.opening import open_image
from fmsteal.data.tar_members import Member

INDEXES = "indexes"  # the kind of these artifacts in a store
VERSION = 1  # increased when the same archives are indexed differently
MOST_FAULTS = 100  # that are kept by name
_WHERE, _NAMES, _ENDS, _LABELS, _ABOUT = "where.npy", "names.bin", "ends.npy", "labels.npy", "index.json"


@dataclass
class TarEntries:
    """What is found while archives are read: images, and what is wrong."""

    where: array[int] = field(default_factory=lambda: array("q"))  # file, start, size of each image
    names: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("q"))
    labels: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    wrong: int = 0

    def add(self, file: int, member: Member, label: str | None = None) -> None:
        """Add an image of the archive with this number."""
        self.where.extend((file, member.start, member.size))
        self.names += os.fsencode(member.name)
        self.ends.append(len(self.names))
        if label is not None:
            self.labels.append(label)

    def blame(self, what: str) -> None:
        """Note what is wrong, and where."""
        self.wrong += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(what)

    def save(self, folder: Path) -> None:
        """Write the index, labels numbered."""
        np.save(folder / _WHERE, np.array(self.where, dtype=np.int64).reshape(-1, 3))
        np.save(folder / _ENDS, np.array(self.ends, dtype=np.int64))
        (folder / _NAMES).write_bytes(self.names)
        classes: list[str] = []
        if self.labels:
            numbers, classes = number_labels(self.labels)
            np.save(folder / _LABELS, numbers)
        write_json(folder / _ABOUT, {"classes": classes, "faults": self.faults, "wrong": self.wrong})


class TarIndex:
    """The images of some archives, by number: `fmsteal.data.numbered.NumberedImages`."""

    def __init__(self, files: Sequence[Path], spec: Mapping[str, Any], folder: Path) -> None:
        """Open the index in ``folder``, which is of ``files``."""
        about = read_json(folder / _ABOUT)
        self.files = files
        self.spec = spec
        self.slug = _shorten(files[0])
        self.classes: Sequence[str] = about["classes"]
        self.faults: Sequence[str] = about["faults"]
        self.wrong = int(about["wrong"])
        self.labels: Labels | None = np.load(folder / _LABELS) if (folder / _LABELS).exists() else None
        self._where = np.load(folder / _WHERE, mmap_mode="r")
        self._ends = np.load(folder / _ENDS, mmap_mode="r")
        self._names = np.memmap(folder / _NAMES, np.uint8, "r") if len(self._ends) else np.zeros(0, np.uint8)
        self._mine = threading.local()

    def __len__(self) -> int:
        return len(self._ends)

    def member(self, at: int) -> str:
        """The name of an image in its archive."""
        first = int(self._ends[at - 1]) if at else 0
        return os.fsdecode(self._names[first : int(self._ends[at])].tobytes())

    def name(self, at: int) -> str:
        """Archive and member of an image."""
        return f"{self.files[int(self._where[at, 0])]}: {self.member(at)}"

    def open(self, at: int, size: int, max_pixels: int) -> Image.Image:
        """Open an image, see `open_image`."""
        file, start, length = (int(number) for number in self._where[at])
        content = os.pread(self._stream(file).fileno(), length, start)
        if len(content) < length:
            raise DataError("its archive is cut off")
        return open_image(BytesIO(content), size, max_pixels)

    def _stream(self, file: int) -> BinaryIO:
        """The archive, open: each thread keeps the last one, since images are read in the archives' order."""
        if getattr(self._mine, "file", None) != file:
            self._mine.stream, self._mine.file = self.files[file].open("rb", buffering=0), file
        stream: BinaryIO = self._mine.stream
        return stream


def index_archives(
    store: Store,
    files: Sequence[Path],
    how: Mapping[str, Any],
    read: Callable[[TarEntries, int, Path], None],
) -> TarIndex:
    """The index of some archives, made once for their names, sizes and times.

    Args:
        store: where it is kept.
        files: the archives.
        how: what else decides the index.
        read: adds to the entries what the archive of this number holds.
    """
    stamps = [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    spec = {"archives": stamps, "how": dict(how), "version": VERSION}

    def build(out: Path, scratch: Path) -> None:
        entries = TarEntries()
        for number, file in enumerate(files):
            try:
                read(entries, number, file)
            except OSError as error:
                raise DataError(f"{file} cannot be read ({error.strerror}).") from error
            store.tell(f"index {_shorten(files[0])}", number + 1, len(files))
        entries.save(out)

    return TarIndex(files, spec, store.get(INDEXES, _shorten(files[0]), spec, build))


def require_sound(index: TarIndex, broken: Broken) -> None:
    """Refuse archives in which something is wrong, or pass over that with a warning.

    Raises:
        DataError: something is wrong, or with ``skip`` there is no image.
    """
    what = f"{index.wrong} fault(s), first {index.faults[0]}" if index.wrong else "it holds no image"
    if not len(index):
        raise DataError(f"{_spell(index.files)}: {what}.")
    if index.wrong and broken == "error":
        raise DataError(
            f"{_spell(index.files)}: {what}. Mend that, or pass over it: data.broken=skip (query.broken=skip)."
        )
    if index.wrong:
        log.warning("%s: %s; passed over", _spell(index.files), what)


def _spell(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{len(files)} archives ({files[0].name} ... {files[-1].name})"


def _shorten(file: Path) -> str:
    return file.name.partition(".")[0] or "archive"
