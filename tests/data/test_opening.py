"""Image files that are large, turned, deep or floating point: read as they are meant, or refused by name."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.data.decode import crop_square
from fmsteal.data.image_folder import pool
from fmsteal.data.images import Images
from tests.support.commands import environment

GROWN = """
import sys
from fmsteal.data.image_folder import pool
from fmsteal.base.errors import DataError
from fmsteal.base.store import Store

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
try:
    pool(Store(sys.argv[1]), sys.argv[2], size=224)
except DataError as error:
    print(error)
print((peak() - before) // 1024, "MB")
"""


def read(folder: Path, **options: object) -> Images:
    return pool(Store(folder.parent / "cache"), str(folder), **options)  # type: ignore[arg-type]


LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    return tmp_path / "d"


def grown(folder: Path) -> tuple[str, int]:
    """What it says, and by how many MB a process grows that reads a folder."""
    words = [sys.executable, "-c", GROWN, str(folder.parent / "cache"), str(folder)]
    said = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True).stdout
    return said, int(said.split()[-2])


def bomb(file: Path, side: int) -> None:
    """A black PNG of ``side`` x ``side`` pixels, as a stream of 1-bit rows: a few kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    packed, row = zlib.compressobj(9), bytes(side + 1)
    data = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@LINUX
def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(folder: Path) -> None:
    bomb(folder / "bomb.png", 13000)
    assert (folder / "bomb.png").stat().st_size < 200_000
    said, mb = grown(folder)
    assert "bomb.png (its 13000 x 13000 pixels are more than data.max_pixels=64000000 (query.max_pixels)" in said
    assert mb < 60, "the header is all that was read"


def test_the_limit_can_be_raised_past_pillows_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 30), 9).save(folder / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many
    assert len(read(folder, size=4)) == 1 and Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(DataError, match=r"40 x 30 pixels are more than data\.max_pixels=1199"):
        read(folder, size=4, max_pixels=1199)
    assert len(read(folder, size=4, max_pixels=1200)) == 1


@LINUX
@pytest.mark.parametrize("size", [(30_000, 1), (3, 20_000)])
def test_of_a_strip_only_the_middle_is_resized(size: tuple[int, int], folder: Path) -> None:
    Image.new("RGB", size, (7, 8, 9)).save(folder / "strip.png")
    said, mb = grown(folder)
    assert mb < 100, said


def test_the_middle_of_a_strip_is_what_resizing_all_of_it_gives() -> None:
    random = np.random.default_rng(0)
    for width, height in ((90, 7), (5, 61), (300, 33)):
        strip = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        scale = 24 / min(strip.size)
        whole = strip.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
        left, top = (whole.width - 24) // 2, (whole.height - 24) // 2
        middle = np.asarray(whole.crop((left, top, left + 24, top + 24))).transpose(2, 0, 1)
        assert np.abs(crop_square(strip, 24).astype(int) - middle).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(orientation: int, folder: Path) -> None:
    corners = np.zeros((8, 8, 3), np.uint8)
    corners[:4, :4], corners[:4, 4:], corners[4:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image, exif = Image.fromarray(corners), Image.Exif()
    exif[0x0112] = orientation
    image.save(folder / "x.jpg", exif=exif, quality=100, subsampling=0)
    image.save(folder / "y.png", exif=exif)
    with Image.open(folder / "y.png") as stored:
        wanted = np.asarray(ImageOps.exif_transpose(stored)).transpose(2, 0, 1)
    turned, same = read(folder, size=8).pixels
    np.testing.assert_array_equal(same, wanted)
    assert np.abs(turned.astype(int) - wanted).max() < 12  # JPEG's loss


def test_levels_that_nothing_explains_are_refused(folder: Path) -> None:
    random = np.random.default_rng(0)
    odd = {
        "float.tif": (random.random((6, 6), dtype=np.float32), "floating point"),
        "long.tif": (random.integers(0, 2**30, (6, 6), dtype=np.int32), "more than 16 bits"),
        "twelve.png": (random.integers(0, 4096, (6, 6), dtype=np.uint16), "within those of 12 bits"),
        "twelve.tif": (random.integers(0, 4096, (6, 6), dtype=np.uint16), "within those of 12 bits"),
    }
    Image.new("L", (6, 6), 100).save(folder / "sound.png")
    for name, (levels, match) in odd.items():
        Image.fromarray(levels).save(folder / name)
        with pytest.raises(DataError, match=rf"first .*{name} \(its .*levels .*{match}.*broken=skip"):
            read(folder, size=4)
        assert len(read(folder, size=4, broken="skip")) == 1
        (folder / name).unlink()


def test_twelve_bits_of_colour_are_refused_and_sixteen_are_read(folder: Path) -> None:
    for most, fits in ((4095, False), (65535, True)):
        levels = np.linspace(0, most, 6 * 6 * 3).astype(">u2").reshape(6, 6, 3)
        _deep_png(folder / "x.png", levels)
        if fits:
            np.testing.assert_allclose(read(folder, size=6).pixels[0].transpose(1, 2, 0), levels / 257, atol=1)
        else:
            with pytest.raises(DataError, match="within those of 12 bits"):
                read(folder, size=6)


def test_a_black_image_of_sixteen_bits_and_a_pgm_of_twelve_are_read(folder: Path) -> None:
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(folder / "black.png")
    levels = np.linspace(0, 4095, 36).astype(">u2").reshape(6, 6)
    (folder / "ramp.pgm").write_bytes(b"P5 6 6 4095\n" + levels.tobytes())  # it says itself what is white
    black, ramp = read(folder, size=6).pixels
    assert black.max() == 0
    np.testing.assert_allclose(ramp[0], levels.astype(float) / 4095 * 255, atol=1)


def _deep_png(file: Path, levels: np.ndarray) -> None:
    """A PNG of 16 bits per colour, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.tobytes() for row in levels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = levels.shape[1].to_bytes(4, "big") + levels.shape[0].to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
