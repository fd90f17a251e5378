"""Decodes image files into a uint8 array on the disk, in parallel, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import read_json, write_json
from fmsteal.data.images import PIXELS, Ids, Labels, Pixels

BLOCK = 1024  # images decoded before they are saved: a kill loses no more, and no more are in memory at a time
TURN = 16  # images that a thread decodes at a time
Read = Callable[[int], tuple[Image.Image, int]]
STRIP = 8  # an image more than this many times as long as wide is a strip
_LABELS, _STATE = "labels.npy", "decoded.json"


@dataclass(frozen=True)
class Decoded:
    """The decoded images, and what could not be decoded.

    Attributes:
        pixels: uint8 ``(n, 3, size, size)``, a memory map.
        labels: int64 ``(n,)``.
        faults: what went wrong, by place; the pixels and label of such a place mean nothing.
    """

    pixels: Pixels
    labels: Labels
    faults: dict[int, str]

    @property
    def sound(self) -> Ids:
        """The places that could be decoded."""
        return np.array([place for place in range(len(self.labels)) if place not in self.faults], dtype=np.int64)

    def into(self, folder: Path) -> Pixels:
        """The decoded images as a file in ``folder``: the decoded file itself if nothing has to be left out."""
        target = folder / PIXELS
        if self.faults:
            kept = self.sound
            pixels = _room(target, np.uint8, (len(kept), *self.pixels.shape[1:]))
            for start in range(0, len(kept), BLOCK):
                pixels[start : start + BLOCK] = self.pixels[kept[start : start + BLOCK]]
            pixels.flush()
            return pixels
        source = Path(str(self.pixels.filename))  # type: ignore[attr-defined]
        try:
            target.hardlink_to(source)  # the scratch stays as it is until the artifact is published
        except OSError:  # a file system without links
            source.rename(target)
        return np.load(target, mmap_mode="r")


def decode(count: int, read: Read, size: int, scratch: Path, tell: Callable[[int, int], None]) -> Decoded:
    """Read ``count`` labelled images into files below ``scratch``; continue after the blocks saved by an earlier call.

    Images that could not be read then are tried again: the file is not always to blame.

    Args:
        count: number of images.
        read: gives the image and the label of a place.
        size: pixels of the square images.
        scratch: a folder for this very set of images, which outlives a killed process.
        tell: called with the number of images done, and the total.
    """
    state = read_json(scratch / _STATE)
    kept = state is not None and (scratch / PIXELS).is_file() and (scratch / _LABELS).is_file()
    if kept and state["count"] == count:
        pixels, labels = (open_memmap(scratch / name, "r+") for name in (PIXELS, _LABELS))
    else:
        state = {"done": 0, "faults": {}}
        pixels = _room(scratch / PIXELS, np.uint8, (count, 3, size, size))
        labels = _room(scratch / _LABELS, np.int64, (count,))
    faults: dict[int, str] = {int(place): fault for place, fault in state["faults"].items()}

    def one(place: int) -> None:
        faults.pop(place, None)
        try:
            image, labels[place] = read(place)
            with image:
                pixels[place] = crop_square(image, size)
        except Exception as error:  # PIL raises many kinds for damaged files
            faults[place] = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"

    def several(places: range) -> None:
        for place in places:
            one(place)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(one, sorted(faults)))
        for start in range(state["done"], count, BLOCK):
            end = min(start + BLOCK, count)
            list(workers.map(several, [range(at, min(at + TURN, end)) for at in range(start, end, TURN)]))
            pixels.flush()
            labels.flush()
            write_json(scratch / _STATE, {"count": count, "done": end, "faults": faults})
            tell(end, count)
    return Decoded(pixels, labels, faults)


def _room(file: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> Any:
    """A new array in a file, its disk space allocated at once: a full disk is an error here, but a crash later."""
    array = open_memmap(file, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return array


def describe_first_fault(faults: dict[int, str], names: Sequence[object]) -> str:
    """The first of the faults, with the name of the file or item."""
    place = min(faults)
    return f"{names[place]} ({faults[place]})"


def crop_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """RGB ``(3, size, size)``: the shorter side is resized (bilinear), the middle cropped.

    Alpha is dropped, as in torchvision's loader; 16-bit grey is scaled to 8 bits. Only the middle of a strip is
    resized: resizing all of it would take memory proportional to the square of its length.

    Raises:
        DataError: the levels are floating point, or integers of more than 16 bits: it is not known which is white.
    """
    if image.mode == "F":
        raise DataError("its levels are floating point, and nothing says which is white: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError("its levels are integers of more than 16 bits: save it with 8 or 16 bits")
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    rgb = image.convert("RGBA") if image.mode in ("P", "LA") else image
    rgb = rgb if rgb.mode == "RGB" else rgb.convert("RGB")
    if rgb.size == (size, size):
        return np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1)
    scale = size / min(rgb.size)
    width, height = (max(size, round(side * scale)) for side in rgb.size)
    left, top = (width - size) // 2, (height - size) // 2
    if max(rgb.size) > STRIP * min(rgb.size):
        x, y = rgb.width / width, rgb.height / height
        box = (left * x, top * y, min((left + size) * x, rgb.width), min((top + size) * y, rgb.height))
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box)  # may differ by a level from the way below
    else:
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1)
