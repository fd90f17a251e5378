"""From the body of a request to pixels: PNG and JPEG, within limits that hold before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.data.decode import crop_square
from fmsteal.serve.faults import Fault

KINDS = {"image/png": "PNG", "image/jpeg": "JPEG"}
JSON = "application/json"
LARGEST_SIDE = 512  # square images up to this side are shown to the model as they are
SCANS = 100  # of a JPEG, each of which is worked through for all of its pixels; a progressive one has about ten
_SCAN = b"\xff\xda"  # begins one; what is compressed never holds these two bytes


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes:
        images: number of images.
        body: bytes of its body.
        pixels: pixels of its images together, as their headers say.
    """

    images: int = 256
    body: int = 16 * 2**20
    pixels: int = 2**24


def open_pictures(kind: str, body: bytes, limits: Limits) -> list[Image.Image]:
    """The images of a body, of which no more than the headers has been decoded.

    Args:
        kind: the Content-Type, without parameters.
        body: one image, or ``{"images": ["<base64>", ...]}``.
        limits: what is allowed.

    Raises:
        Fault: the body is not what ``kind`` says, or is over a limit.
    """
    if kind not in KINDS and kind != JSON:
        due = ", ".join([*KINDS, JSON])
        raise Fault("unsupported_media_type", f"Content-Type is {kind or 'missing'}. Send one of: {due}.")
    if not body:
        raise Fault("bad_request", 'The body is empty. Send an image, or {"images": ["<base64>", ...]}.')
    files, formats = ([body], (KINDS[kind],)) if kind in KINDS else (_unpack(body, limits), tuple(KINDS.values()))
    pictures = [_open(file, formats, number, len(files)) for number, file in enumerate(files)]
    if (total := sum(picture.width * picture.height for picture in pictures)) > limits.pixels:
        raise Fault(
            "image_too_large", f"{total:,} pixels in one request; {limits.pixels:,} are allowed. Resize, or split."
        )
    return pictures


def decode_pictures(pictures: Sequence[Image.Image], size: int) -> npt.NDArray[np.uint8]:
    """Pixels ``(n, 3, side, side)``, uint8.

    Square images of one size, up to `LARGEST_SIDE`, stay as they are: the model resizes them itself. Others are brought
    to ``size`` as the images of a data set are: the shorter side resized, the middle cropped.

    Raises:
        Fault: an image is damaged, or of a kind that has no 8-bit colours.
    """
    sides = {side for picture in pictures for side in picture.size}
    side = sides.pop() if len(sides) == 1 and max(sides) <= LARGEST_SIDE else size
    return np.stack([_decode(picture, side, number, len(pictures)) for number, picture in enumerate(pictures)])


def _unpack(body: bytes, limits: Limits) -> list[bytes]:
    try:
        known = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Fault("bad_request", f"The body is no JSON ({error}).") from error
    images = known.get("images") if isinstance(known, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
        raise Fault("bad_request", 'The body is not {"images": ["<base64>", ...]} with at least one image.')
    if unknown := sorted(set(known) - {"images"}):
        raise Fault("bad_request", f"The body has a field {unknown[0][:50]!r}; there is images alone.")
    if len(images) > limits.images:
        raise Fault("batch_too_long", f"{len(images)} images in one request; {limits.images} are allowed. Split it.")
    return [_unpack_one(image, number) for number, image in enumerate(images)]


def _unpack_one(image: str, number: int) -> bytes:
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Fault("bad_request", f"images[{number}] is no base64 ({error}).") from error


def _open(file: bytes, formats: tuple[str, ...], number: int, count: int) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(file), formats=formats)
    except Image.DecompressionBombError as error:
        raise Fault("image_too_large", f"{_name(number, count)} has far too many pixels. Resize it.") from error
    except Exception as error:  # PIL raises many kinds for damaged files
        due = " or ".join(formats)
        raise Fault("not_an_image", f"{_name(number, count)} is no {due} image, or a damaged one.") from error
    if picture.format != "PNG" and (scans := file.count(_SCAN)) > SCANS:
        raise Fault("image_too_large", f"{_name(number, count)} is a JPEG of {scans:,} scans. Save it again as it is.")
    return picture


def _decode(picture: Image.Image, side: int, number: int, count: int) -> npt.NDArray[np.uint8]:
    try:
        with picture:
            return crop_square(picture, side)
    except DataError as error:
        raise Fault("not_an_image", f"{_name(number, count)} cannot be shown to the model: {error}.") from error
    except Exception as error:  # PIL raises many kinds for damaged files
        raise Fault("not_an_image", f"{_name(number, count)} is damaged ({type(error).__name__}).") from error


def _name(number: int, count: int) -> str:
    return "The body" if count == 1 else f"images[{number}]"
