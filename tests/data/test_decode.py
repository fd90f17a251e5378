"""Killed, damaged, refused: what is decoded block by block comes out as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError, StoreError
from fmsteal.base.store import MANIFEST, Store, read_json
from fmsteal.data import decode as decoding
from fmsteal.data import image_folder
from fmsteal.data.decode import decode
from fmsteal.data.image_folder import NAMES
from fmsteal.data.images import PIXELS, load
from tests.support.commands import environment

COUNT, BLOCK, SIZE = 200, 16, 24
BAD = (4, 151)  # one in the first block (class a comes first), one that a killed process never reached

SLOWLY = """
import sys, time
from pathlib import Path
from fmsteal.data import decode, image_folder
from fmsteal.base.store import Store

real, decode.BLOCK = decode.crop_square, 16
decode.crop_square = lambda image, size: time.sleep(0.01) or real(image, size)
image_folder.decode_folder(Store(sys.argv[1]), Path(sys.argv[2]), 24, "skip", labelled=True)
"""

WITHIN = """
import resource, sys
from pathlib import Path
from fmsteal.data import decode
from fmsteal.data.image_folder import pool
from fmsteal.base.store import Store

decode.BLOCK = 64
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[3]),) * 2)
print(pool(Store(sys.argv[1]), sys.argv[2], size=512, broken="skip").pixels.nbytes)
"""


def photographs(folder: Path, count: int = COUNT, bad: tuple[int, ...] = BAD) -> Path:
    """JPEGs in two classes, those of ``bad`` cut off; of even number in class a, odd in class b."""
    random = np.random.default_rng(0)
    for i in range(count):
        file = folder / "ab"[i % 2] / f"{i:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(file, quality=90)
        if i in bad:
            file.write_bytes(file.read_bytes()[:200])
    return folder


def script(source: str, *args: object) -> list[str]:
    return [sys.executable, "-c", source, *map(str, args)]


def files(artifact: Path) -> dict[str, bytes]:
    """All files of an artifact; of its manifest all but the time that making it took."""
    found = {p.name: p.read_bytes() for p in artifact.iterdir()}
    return {**found, MANIFEST: json.dumps({**json.loads(found[MANIFEST]), "seconds": None}).encode()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("cache"))
    return image_folder.decode_folder(store, folder, SIZE, "skip", labelled=True)


def test_killed_it_goes_on_and_ends_as_if_nothing_had_happened(
    folder: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = subprocess.Popen(script(SLOWLY, tmp_path, folder), env=environment())
    while not (states := list(tmp_path.glob("scratch/images/*/decoded.json"))) or read_json(states[0])["done"] < 48:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = read_json(states[0])
    assert 48 <= kept["done"] < COUNT and kept["done"] % BLOCK == 0 and len(kept["faults"]) == 1

    read = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda file: read.append(file) or opened(file))
    again = image_folder.decode_folder(Store(tmp_path), folder, SIZE, "skip", labelled=True)
    assert len(read) == COUNT - kept["done"] + 1, "what is left, and once more the file that could not be read"
    assert "2 image file(s) that cannot be decoded were passed over" in caplog.text
    assert again.name == undisturbed.name and files(again) == files(undisturbed)
    assert not list(tmp_path.glob("scratch/images/*")) and not list(tmp_path.glob("temporary/*"))


def test_pixels_labels_and_names_stay_side_by_side(folder: Path, undisturbed: Path) -> None:
    images, names = load(undisturbed), read_json(undisturbed / NAMES)
    assert len(names) == len(images) == COUNT - 2 and images.labels is not None
    assert not {f"{'ab'[i % 2]}/{i:04d}.jpg" for i in BAD} & set(names)
    for name, pixels, label in zip(names, images.pixels, images.labels, strict=True):
        with Image.open(folder / name) as image:
            image.draft("RGB", (SIZE, SIZE))
            np.testing.assert_array_equal(decoding.crop_square(image, SIZE), pixels, err_msg=name)
        assert images.classes[label] == Path(name).parts[0]


@pytest.mark.parametrize("bad", [(), BAD])
def test_the_artifact_lies_where_links_point_or_are_refused(
    bad: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache behind a linked folder, and a file system without hard links."""
    photos = photographs(tmp_path / "photos", 20, tuple(b % 20 for b in bad))
    plain = image_folder.decode_folder(Store(tmp_path / "plain"), photos, SIZE, "skip", labelled=True)
    assert load(plain).pixels.min() < load(plain).pixels.max()
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far")
    linked = image_folder.decode_folder(Store(tmp_path / "near" / "away"), photos, SIZE, "skip", labelled=True)
    assert files(linked) == files(plain)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    moved = image_folder.decode_folder(Store(tmp_path / "moved"), photos, SIZE, "skip", labelled=True)
    assert files(moved) == files(plain)


def test_where_nothing_is_left_out_the_decoded_file_is_the_artifact(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (9, 8, 7))
    found = decode(5, lambda at: (image.copy(), at), 4, tmp_path, lambda done, of: None)
    (tmp_path / "out").mkdir()
    assert isinstance(found.into(tmp_path / "out"), np.memmap)
    assert (tmp_path / "out" / PIXELS).samefile(tmp_path / PIXELS)


def test_a_fault_that_has_passed_is_forgotten_and_one_that_stays_is_not(tmp_path: Path) -> None:
    image, ill = Image.new("RGB", (8, 8), (9, 8, 7)), {2, 4}

    def read(at: int) -> tuple[Image.Image, int]:
        if at in ill:
            raise OSError("the network is away")
        return image.copy(), at

    assert set(decode(5, read, 4, tmp_path, lambda done, of: None).faults) == {2, 4}
    ill.remove(2)
    found = decode(5, read, 4, tmp_path, lambda done, of: None)
    assert found.faults == {4: "OSError: the network is away"} and found.sound.tolist() == [0, 1, 2, 3]
    assert found.labels[2] == 2 and (found.pixels[2] == found.pixels[0]).all()
    assert len(decode(7, read, 4, tmp_path, lambda done, of: None).pixels) == 7, "another set: begun afresh"


def test_a_damaged_artifact_is_not_made_from_the_scratch_that_shares_its_file(tmp_path: Path) -> None:
    photos, store = photographs(tmp_path / "photos", 10, ()), Store(tmp_path / "cache")
    place = image_folder.decode_folder(store, photos, SIZE, "error", labelled=True)
    before, scratch = files(place), tmp_path / "cache" / "scratch" / "images" / place.name
    scratch.mkdir(parents=True)  # killed after the artifact was published, before this was removed
    (scratch / PIXELS).hardlink_to(place / PIXELS)
    (scratch / "labels.npy").hardlink_to(place / "labels.npy")
    (scratch / "decoded.json").write_text('{"count": 10, "done": 10, "faults": {}}')
    with (place / PIXELS).open("r+b") as stream:
        stream.seek(-5, 2)
        stream.write(b"\0\1\2\3\4")
    assert files(image_folder.decode_folder(store, photos, SIZE, "error", labelled=True)) == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_set_larger_than_the_memory_is_decoded(tmp_path: Path) -> None:
    """210 MB of pixels within 100 MB more than the imports took (shared file mappings do not count)."""
    photos = photographs(tmp_path / "photos", 270)
    done = subprocess.run(
        script(WITHIN, tmp_path / "cache", photos, 100 * 2**20), env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 268 * 3 * 512 * 512 > 200 * 2**20


def test_a_full_disk_is_named_and_not_a_crash(tmp_path: Path) -> None:
    photos, small = photographs(tmp_path / "photos", 40, ()), tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        with pytest.raises(StoreError, match="No space left while writing under"):
            image_folder.pool(Store(small), str(photos), size=224)
        subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
        assert len(image_folder.pool(Store(small), str(photos), size=224)) == 40
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_none_sound_is_an_error_that_stays_one(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 4, (0, 1, 2, 3))
    for _ in range(2):
        with pytest.raises(DataError, match=r"None of 4 image files can be decoded, first .*0000\.jpg"):
            image_folder.pool(Store(tmp_path / "cache"), str(photos), broken="skip")
