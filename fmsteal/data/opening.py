"""Opens an image file: checks its size before it is decoded, then its levels, and turns it upright."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from fmsteal.base.errors import DataError

MAX_PIXELS = 64_000_000  # an image of this size takes 256 MB while it is decoded
TWELVE_BITS = 4095
_ORIENTATION = 0x0112  # an EXIF tag


def open_image(file: Path | BinaryIO, size: int, max_pixels: int) -> Image.Image:
    """Open an image file (its path, or its content), turned as its EXIF orientation says.

    JPEGs are decoded at a reduced scale where that suffices for ``size`` pixels.

    Raises:
        DataError: the image has more pixels than ``max_pixels`` (nothing is decoded then), or its 16-bit levels stay
            within 12 bits, so that it would be nearly black.
        OSError: the file cannot be read.
    """
    image = Image.open(file)
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise DataError(
            f"its {width} x {height} pixels are more than data.max_pixels={max_pixels} (query.max_pixels) allows: "
            "raise that if the file is meant"
        )
    image.draft("RGB", (size, size))
    if "16" in image.mode or any(re.search(r";16[BLN]", str(tile[3])) for tile in image.tile):
        _require_levels(image)
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


@contextmanager
def lift_pillow_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which cannot be set for a single data set."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _require_levels(image: Image.Image) -> None:
    """Refuse 12-bit levels that were stored in 16 bits as they are."""
    bands = np.atleast_2d(np.array(image.getextrema()))  # minimum and maximum of each
    most = bands[: 1 if image.mode in ("LA", "La") else 3, 1].max()  # of all but alpha
    limit = TWELVE_BITS if "16" in image.mode else TWELVE_BITS >> 8  # colours are given with 8 bits
    if 0 < most <= limit:
        raise DataError(
            "its 16-bit levels end within those of 12 bits, and would be nearly black: scale them to 16 bits, or save "
            "it with 8"
        )
