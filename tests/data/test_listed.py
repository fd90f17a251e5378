"""Small trees in the layouts of the archives; the lists say which image is in which split, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images, Task
from tests.support.composing import composed

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
ROOMS = ("airport_inside", "bar", "toystore")
Split = dict[int, tuple[int, ...]]  # class: numbers of its images
CUB_TRAIN: Split = {0: (1, 4), 1: (2, 3), 2: (0, 1, 4)}
INDOOR_TRAIN: Split = {0: (3, 0), 1: (1,), 2: (2, 4)}
INDOOR_TEST: Split = {0: (1,), 1: (4, 2), 2: (0,)}  # not all images are in a split


def grey(label: int, number: int) -> int:
    """Tells class and number of an image by its pixels."""
    return 60 * label + 10 * number + 10


def picture(file: Path, label: int, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (grey(label, number),) * 3).save(file, quality=95)


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    root = tmp_path / "CUB_200_2011"
    listed, split = [], []
    for label, name in enumerate(BIRDS):
        for number in range(5):
            file = f"{name}/{name[4:]}_{number:04d}_{label}.jpg"
            picture(root / "images" / file, label, number)
            listed.append(f"{len(listed) + 1} {file}")
            split.append(f"{len(listed)} {int(number in CUB_TRAIN[label])}")
    (root / "images.txt").write_text("\n".join(listed) + "\n")
    (root / "train_test_split.txt").write_text("\n".join(split) + "\n")
    (root / "classes.txt").write_text("".join(f"{at + 1} {name}\n" for at, name in enumerate(BIRDS)))
    return root


@pytest.fixture
def indoor(tmp_path: Path) -> Path:
    root = tmp_path / "indoor"
    for label, name in enumerate(ROOMS):
        for number in range(5):
            picture(root / "Images" / name / f"{name} {number}.jpg", label, number)
    for file, split in (("TrainImages.txt", INDOOR_TRAIN), ("TestImages.txt", INDOOR_TEST)):
        lines = [f"{ROOMS[label]}/{ROOMS[label]} {n}.jpg" for label, numbers in split.items() for n in numbers]
        (root / file).write_text("\r\n".join(lines))  # no newline at the end, as in the archive
    return root


def made(root: Path, *overrides: str) -> Task:
    dataset = "cub200" if root.name.startswith("CUB") else "indoor67"
    cfg = composed(f"data={dataset}", f"data.root={root}", "data.size=16", *overrides)
    build.check(cfg)
    return build.make(cfg.data, store=Store(root.parent / "cache"))


def holds(images: Images) -> list[tuple[int, int]]:
    """Label and grey level of each image."""
    assert images.labels is not None
    levels = np.asarray(images.pixels).mean((1, 2, 3)).round().astype(int)
    return sorted(zip(images.labels.tolist(), levels.tolist(), strict=True))


def wanted(split: Split) -> list[tuple[int, int]]:
    return sorted((label, grey(label, number)) for label, numbers in split.items() for number in numbers)


def test_the_birds_split_is_the_authors(cub: Path) -> None:
    task = made(cub)
    assert tuple(task.train.classes) == BIRDS and task.rest is None
    assert holds(task.train) == wanted(CUB_TRAIN)
    assert holds(task.test) == wanted({k: tuple({*range(5)} - {*v}) for k, v in CUB_TRAIN.items()})


def test_the_rooms_split_is_the_authors(indoor: Path) -> None:
    task = made(indoor)
    assert tuple(task.train.classes) == ROOMS
    assert holds(task.train) == wanted(INDOOR_TRAIN) and holds(task.test) == wanted(INDOOR_TEST)


def test_counts_leave_a_rest_and_the_images_are_decoded_once(cub: Path) -> None:
    task = made(cub, "data.train_count=4", "data.test_count=3")
    assert task.rest is not None and (len(task.train), len(task.test), len(task.rest)) == (4, 3, 3)
    assert sorted(holds(task.train) + holds(task.rest)) == wanted(CUB_TRAIN)
    made(cub)
    assert len(list((cub.parent / "cache" / "images").iterdir())) == 1


@pytest.mark.parametrize(
    ("layout", "file"),
    [("cub", "images.txt"), ("cub", "train_test_split.txt"), ("indoor", "TrainImages.txt"),
     ("indoor", "TestImages.txt")],
)  # fmt: skip
def test_a_list_that_is_missing_is_named(layout: str, file: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(layout)
    (root / file).rename(root / "elsewhere.txt")
    with pytest.raises(DataError, match=rf"There is no .*{file}\. Give the folder that the data set's archive unpacks"):
        made(root)
    (root / file).write_text("\n")
    with pytest.raises(DataError, match="None of the 0 images of a split"):
        made(root)


def test_a_folder_without_images_is_named(cub: Path) -> None:
    (cub / "images").rename(cub / "pictures")
    with pytest.raises(DataError, match=r"There is no image folder .*images\."):
        made(cub)


@pytest.mark.parametrize("layout", ["cub", "indoor"])
def test_a_listed_image_that_is_missing_is_named_or_passed_over(
    layout: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    root = request.getfixturevalue(layout)
    whole = len(made(root).train)
    gone = min(root.rglob("*1*.jpg") if layout == "cub" else root.rglob("bar 1.jpg"))
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 images listed under .* not there, first {gone.parent.name}/{gone.name}"):
        made(root)
    made(root, "data.broken=skip")
    assert f"1 images listed under {root} are not there" in caplog.text
    assert len(made(root, "data.broken=skip").train) == whole - 1


def test_an_image_that_cannot_be_decoded_is_named_or_passed_over(cub: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = min((cub / "images" / BIRDS[1]).iterdir())
    bad.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"cannot be decoded, first .*{bad.name}"):
        made(cub)
    task = made(cub, "data.broken=skip")
    assert len(task.train) + len(task.test) == 14 and "passed over" in caplog.text
    assert holds(task.train) == wanted(CUB_TRAIN), "labels and names stay side by side"
