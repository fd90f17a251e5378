from __future__ import annotations

import os
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, read_json
from fmsteal.data.image_folder import NAMES, decode_folder, pool, task
from fmsteal.data.images import Images, load


def colour(
    path: Path, rgb: tuple[int, int, int], mode: str = "RGB", size: tuple[int, int] = (20, 12), **save: object
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, rgb).convert(mode).save(path, **save)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(5):
        colour(tmp_path / "data" / "red ones" / f"{i}.png", (200 + i, 0, 0))
        colour(tmp_path / "data" / "grün" / f"{i}.jpg", (0, 200 + i, 0), quality=95)
    return tmp_path / "data"


def test_a_folder_is_a_task(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    made = task(store, str(folder), size=8, test_share=0.3)
    assert list(made.train.classes) == ["grün", "red ones"] and (len(made.train), len(made.test)) == (7, 3)
    assert made.train.pixels.shape == (7, 3, 8, 8) and made.train.labels is not None
    for image, label in zip(made.train.pixels, made.train.labels, strict=True):
        assert image[0 if label == 1 else 1].min() > 190 and image[2].max() < 10
    (folder / "red ones" / ".checkpoints").mkdir()
    (folder / ".hidden").mkdir()
    for hidden in ("red ones/.checkpoints", ".hidden"):
        colour(folder / hidden / "x.png", (0, 0, 255))
    again = task(store, str(folder), size=8, test_share=0.3)
    assert again.train.digest == made.train.digest and len(list((tmp_path / "cache" / "images").iterdir())) == 1
    assert task(store, str(folder), size=8, test_share=0.3, seed=1).test.digest != made.test.digest


def test_given_splits_are_taken(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            for i in range(count):
                colour(tmp_path / "d" / split / name / f"{i}.png", (i, 0, 0))
    made = task(Store(tmp_path / "cache"), str(tmp_path / "d"), size=4)
    assert (len(made.train), len(made.test)) == (6, 4)
    colour(tmp_path / "d" / "test" / "c" / "0.png", (0, 0, 0))
    with pytest.raises(DataError, match="in one of them only: c"):
        task(Store(tmp_path / "cache"), str(tmp_path / "d"), size=4)


def test_a_folder_is_a_pool_at_any_depth_and_a_count_of_it(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    whole = pool(store, str(folder), size=8)
    assert len(whole) == 10 and whole.labels is None and isinstance(whole.pixels, np.memmap)
    some = pool(store, str(folder), size=8, count=4, seed=1)
    assert len(some) == 4 and {i.tobytes() for i in some.pixels} <= {i.tobytes() for i in whole.pixels}
    with pytest.raises(DataError, match="11 images are asked for of 10"):
        pool(store, str(folder), size=8, count=11)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "d" / f"x.{'jpg' if mode == 'CMYK' else 'png'}"
    file.parent.mkdir()
    if mode == "I;16":
        Image.fromarray(np.full((6, 6), 65535, np.uint16)).save(file)
    else:
        Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode).save(file)
    pixels = pool(Store(tmp_path / "cache"), str(tmp_path / "d"), size=6).pixels
    assert pixels.shape == (1, 3, 6, 6) and pixels.min() > 250


def test_sixteen_bit_grey_keeps_its_levels(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    (tmp_path / "d").mkdir()
    Image.fromarray(ramp).save(tmp_path / "d" / "x.png")
    pixels = pool(Store(tmp_path / "cache"), str(tmp_path / "d"), size=16).pixels
    np.testing.assert_allclose(pixels[0, 0].astype(int), ramp / 257, atol=0.51)


def test_the_shorter_side_is_resized_and_the_middle_cropped(tmp_path: Path) -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    (tmp_path / "d").mkdir()
    Image.fromarray(image).save(tmp_path / "d" / "x.png")
    assert pool(Store(tmp_path / "cache"), str(tmp_path / "d"), size=10).pixels.min() == 255


@pytest.mark.parametrize("harm", ["truncated", "no image"])
def test_a_broken_file_is_named_or_passed_over_and_counted(
    harm: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = folder / "red ones" / "bad.png"
    colour(bad, (1, 2, 3), size=(300, 300))
    bad.write_bytes(bad.read_bytes()[:100] if harm == "truncated" else b"hello")
    store = Store(tmp_path / "cache")
    with pytest.raises(DataError, match=r"1 image file.* cannot be decoded, first .*bad\.png .*broken=skip"):
        task(store, str(folder), size=8)
    made = task(store, str(folder), size=8, broken="skip")
    assert len(made.train) + len(made.test) == 10
    assert "1 image file(s) that cannot be decoded were passed over" in caplog.text


def test_folders_that_make_no_task_are_refused(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with pytest.raises(DataError, match="There is no image folder"):
        task(store, str(tmp_path / "absent"))
    (tmp_path / "void").mkdir()
    for made in (task, pool):
        with pytest.raises(DataError, match="holds no images"):
            made(store, str(tmp_path / "void"))
    (folder / "empty class").mkdir()
    with pytest.raises(DataError, match="hold no readable image: empty class"):
        task(store, str(folder), size=8)
    (folder / "empty class").rmdir()
    with pytest.raises(DataError, match="empty split"):
        task(store, str(folder), size=8, test_share=0.0)
    colour(folder / "stray.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"stray\.png lies outside any class folder"):
        task(store, str(folder), size=8)


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path: Path) -> None:
    for i in range(3):
        colour(tmp_path / "far" / "green" / f"{i}.png", (0, 200 + i, 0))
        colour(tmp_path / "near" / "red" / f"{i}.png", (200 + i, 0, 0))
    (tmp_path / "near" / "green").symlink_to(tmp_path / "far" / "green")
    (tmp_path / "near" / "red" / "linked.png").symlink_to(tmp_path / "near" / "red" / "0.png")
    for again in ("round", "about"):  # two: the system's limit of 40 links on a path alone would allow 2**40 of them
        (tmp_path / "near" / "red" / again).symlink_to(tmp_path / "near")
    (tmp_path / "near" / "green" / "self").symlink_to(tmp_path / "far")
    made = task(Store(tmp_path / "cache"), str(tmp_path / "near"), size=4, test_share=0.3)
    assert list(made.train.classes) == ["green", "red"]
    whole = np.concatenate([made.train.labels, made.test.labels])  # type: ignore[list-item]
    assert np.bincount(whole).tolist() == [3, 4]
    assert len(pool(Store(tmp_path / "cache"), str(tmp_path / "near"), size=4)) == 7


def test_a_link_that_leads_nowhere_is_named_or_passed_over(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "grün" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=r"1 image file.* cannot be decoded, first .*gone\.jpg \(FileNotFoundError"):
        pool(Store(tmp_path / "cache"), str(folder), size=8)
    assert len(pool(Store(tmp_path / "cache"), str(folder), size=8, broken="skip")) == 10
    assert "1 image file(s) that cannot be decoded were passed over" in caplog.text
    (folder / "stray.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"stray\.png lies outside any class folder"):
        task(Store(tmp_path / "cache"), str(folder), size=8)


def test_any_name_will_do_and_other_files_are_left_alone(tmp_path: Path) -> None:
    names = ["a b.png", "Ωμέγα 猫.png", "two\nlines.png", "UPPER.PNG", "x.jpg.webp", os.fsdecode(b"no utf-8 \xff.png")]
    for i, name in enumerate(names):
        colour(tmp_path / "d" / "class 1\n" / name, (40 * i, 0, 0))
    for other in ("read me.txt", "x.png.txt", "png", ".hidden.png", "._x.png"):
        (tmp_path / "d" / "class 1\n" / other).write_text("no image")
        (tmp_path / "d" / other).write_text("no image")
    (tmp_path / "d" / "class 1\n" / "folder.png").mkdir()
    place = decode_folder(Store(tmp_path / "cache"), tmp_path / "d", 4, "error", labelled=True)
    images = load(place)
    assert images.classes == ("class 1\n",)
    found = {
        PurePath(name).name: int(image[0].mean())
        for name, image in zip(read_json(place / NAMES), images.pixels, strict=True)
    }
    assert found == {name: pytest.approx(40 * i, abs=3) for i, name in enumerate(names)}


def test_counts_leave_a_rest_that_the_victim_never_sees(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    whole = task(store, str(folder), size=8, test_share=0.3)
    some = task(store, str(folder), size=8, test_share=0.3, train_count=5, test_count=2)
    assert whole.rest is None and some.rest is not None and (len(some.train), len(some.test)) == (5, 2)

    def inside(images: Images) -> set[int]:
        return set(images.place(np.arange(len(images))).tolist())

    assert inside(some.train) | inside(some.rest) == inside(whole.train)
    assert not inside(some.train) & inside(some.rest) and inside(some.test) < inside(whole.test)
    with pytest.raises(DataError, match="8 images are asked for of 7"):
        task(store, str(folder), size=8, test_share=0.3, train_count=8)
