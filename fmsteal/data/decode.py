"""From image files to uint8 arrays, in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from fmsteal.data.images import Pixels


def decode(count: int, read: Callable[[int], Image.Image], size: int) -> tuple[Pixels, dict[int, str]]:
    """Read ``count`` images as RGB ``(count, 3, size, size)``.

    Returns:
        The pixels, and what went wrong by place; the pixels there mean nothing.
    """
    pixels = np.empty((count, 3, size, size), np.uint8)
    faults: dict[int, str] = {}

    def one(place: int) -> None:
        try:
            with read(place) as image:
                pixels[place] = square(image, size)
        except Exception as error:  # PIL raises many kinds for damaged files
            faults[place] = f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(one, range(count)))
    return pixels, faults


def first_fault(faults: Mapping[int, str], names: Sequence[object]) -> str:
    """The first of the faults, with the name of what it befell."""
    place = min(faults)
    return f"{names[place]} ({faults[place]})"


def square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """RGB ``(3, size, size)``: the shorter side is resized (bilinear), the middle cropped.

    Alpha is dropped, as torchvision's loader does; 16-bit grey is scaled to 8 bits.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    rgb = image.convert("RGBA").convert("RGB") if image.mode in ("P", "LA") else image.convert("RGB")
    scale = size / min(rgb.size)
    target = (max(size, round(rgb.width * scale)), max(size, round(rgb.height * scale)))
    rgb = rgb.resize(target, Image.Resampling.BILINEAR)
    left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
    return np.asarray(rgb.crop((left, top, left + size, top + size)), dtype=np.uint8).transpose(2, 0, 1)
