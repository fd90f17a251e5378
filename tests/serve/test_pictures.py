"""Bodies become pixels, or a fault that names what is wrong with them, before much memory is taken."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from fmsteal.data.decode import crop_square
from fmsteal.serve.faults import Fault
from fmsteal.serve.pictures import Limits, decode_pictures, open_pictures
from tests.support import bombs
from tests.support.serving import JPEG, JSON, PNG, draw, spell_batch, spell_image

LIMITS = Limits(images=4, body=10**6, pixels=10_000)
FILE = spell_image(draw(1)[0])


def read(kind: str, body: bytes, size: int = 16) -> np.ndarray:
    return decode_pictures(open_pictures(kind, body, LIMITS), size)


def test_pixels_of_a_png_come_back_exactly() -> None:
    images = draw(3)
    assert np.array_equal(read(PNG, spell_image(images[0])), images[:1])
    assert np.array_equal(read(JSON, spell_batch([spell_image(image) for image in images])), images)
    assert (
        np.abs(read(JPEG, spell_image(images[0], "JPEG", quality=100, subsampling=0)).astype(int) - images[:1]).mean()
        < 3
    )


def test_other_shapes_are_brought_to_the_models_size_as_data_sets_are() -> None:
    wide = draw(1, side=40)[0][:, :20]
    assert wide.shape == (3, 20, 40)
    due = crop_square(Image.fromarray(wide.transpose(1, 2, 0)), 16)
    assert np.array_equal(read(PNG, spell_image(wide)), due[None])
    mixed = spell_batch([spell_image(wide), FILE])
    assert read(JSON, mixed).shape == (2, 3, 16, 16)


def test_a_progressive_jpeg_is_an_image() -> None:
    assert read(JPEG, spell_image(draw(1)[0], "JPEG", progressive=True)).shape == (1, 3, 32, 32)
    assert read(JPEG, bombs.repeat_scans(16, 50)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_other_colours_become_rgb(mode: str) -> None:
    file = io.BytesIO()
    Image.new("L", (20, 20), 200).convert(mode if mode != "I;16" else "I").convert(mode).save(file, "PNG")
    assert read(PNG, file.getvalue()).shape == (1, 3, 20, 20)


@pytest.mark.parametrize(
    ("kind", "body", "code", "words"),
    [
        ("text/plain", FILE, "unsupported_media_type", "text/plain"),
        ("", FILE, "unsupported_media_type", "missing"),
        ("image/gif", FILE, "unsupported_media_type", "image/png"),
        (PNG, b"", "bad_request", "empty"),
        (JSON, b"", "bad_request", "empty"),
        (PNG, b"no image", "not_an_image", "PNG"),
        (JPEG, FILE, "not_an_image", "JPEG"),
        (PNG, FILE[: len(FILE) // 2], "not_an_image", "damaged"),
        (PNG, FILE[:30], "not_an_image", "damaged"),
        (PNG, bombs.claim_png(101), "image_too_large", "10,201 pixels"),
        (PNG, bombs.claim_png(60_000), "image_too_large", "pixels"),
        (PNG, bombs.claim_png(2**31 - 1), "image_too_large", "pixels"),
        (PNG, bombs.claim_png(0), "not_an_image", "damaged"),
        (JPEG, bombs.repeat_scans(16, 200), "image_too_large", "JPEG of 2"),
        (JSON, spell_batch([spell_image(draw(1, side=60)[0])] * 3), "image_too_large", "10,800 pixels"),
        (JSON, b"{", "bad_request", "no JSON"),
        (JSON, b"\xff\xfe", "bad_request", "no JSON"),
        (JSON, b"[" * 100_000, "bad_request", "no JSON"),
        (JSON, b"[]", "bad_request", "images"),
        (JSON, b"{}", "bad_request", "images"),
        (JSON, b'{"images": []}', "bad_request", "at least one"),
        (JSON, b'{"images": "abc"}', "bad_request", "images"),
        (JSON, b'{"images": [1]}', "bad_request", "images"),
        (JSON, b'{"images": ["%"]}', "bad_request", "images[0] is no base64"),
        (JSON, b'{"images": ["\\u00e9"]}', "bad_request", "images[0] is no base64"),
        (JSON, b'{"images": [""]}', "not_an_image", "body"),
        (JSON, json.dumps({"images": ["QUJD", "QUJD"]}).encode(), "not_an_image", "images[0]"),
        (JSON, spell_batch([FILE, FILE[:-200]]), "not_an_image", "images[1] is damaged"),
        (JSON, spell_batch([FILE] * 5), "batch_too_long", "5 images"),
        (JSON, json.dumps({"images": ["QUJD"], "client": 3}).encode(), "bad_request", "'client'"),
    ],
)
def test_what_is_wrong_with_a_body_is_named(kind: str, body: bytes, code: str, words: str) -> None:
    with pytest.raises(Fault) as fault:
        read(kind, body)
    assert fault.value.code == code and words.lower() in fault.value.message.lower()
