"""How folders of labelled images come: splits by their names, wrappers, a single class; and what is said of it."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.data.image_folder import pool, task
from fmsteal.data.images import Task


def classes(folder: Path, names: str = "ab", count: int = 2, level: int = 100) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (5, 5), (level + i, ord(name), 0)).save(folder / name / f"{i}.png")


def read(root: Path, **options: object) -> Task:
    return task(Store(root.parent / "cache"), str(root), size=4, **options)  # type: ignore[arg-type]


def levels(made: Task) -> tuple[set[int], set[int]]:
    """The red levels of both splits, to the hundred: which folder they came from."""
    train, test = (set((np.asarray(part.pixels)[:, 0, 0, 0] // 50 * 50).tolist()) for part in (made.train, made.test))
    return train, test


@pytest.mark.parametrize("wrapped", ["", "birds", "birds/v2"])
@pytest.mark.parametrize(
    ("train", "test"), [("train", "val"), ("Train", "Test"), ("training", "Validation"), ("TRAIN", "valid")]
)
def test_known_split_names_are_splits(wrapped: str, train: str, test: str, tmp_path: Path) -> None:
    classes(tmp_path / "d" / wrapped / train)
    classes(tmp_path / "d" / wrapped / test, level=200)
    made = read(tmp_path / "d")
    assert list(made.train.classes) == ["a", "b"] and levels(made) == ({100}, {200})


def test_of_three_splits_test_is_taken_unless_it_has_no_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    classes(tmp_path / "d" / "train")
    classes(tmp_path / "d" / "val", level=200)
    classes(tmp_path / "d" / "test", level=150)
    assert levels(read(tmp_path / "d")) == ({100}, {150})
    assert "not looked at: val" in caplog.text
    shutil.rmtree(tmp_path / "d" / "test")
    classes(tmp_path / "d" / "test", "x", level=150)  # test/images/, as Tiny-ImageNet has it
    assert levels(read(tmp_path / "d")) == ({100}, {200})
    assert "not looked at: test" in caplog.text


def test_a_wrapper_is_looked_into_and_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    classes(tmp_path / "d" / "vehicles")
    (tmp_path / "d" / "README.md").write_text("about")
    (tmp_path / "d" / "__MACOSX" / "vehicles").mkdir(parents=True)
    assert list(read(tmp_path / "d").train.classes) == ["a", "b"]
    (tmp_path / "d" / "vehicles" / "b").rename(tmp_path / "d" / "vehicles" / "train")
    assert list(read(tmp_path / "d").train.classes) == ["a", "train"]


def test_a_split_of_its_own_is_found_like_the_other(tmp_path: Path) -> None:
    classes(tmp_path / "one" / "w" / "train")
    classes(tmp_path / "one" / "w" / "test", level=150)
    classes(tmp_path / "two" / "w" / "train")
    classes(tmp_path / "two" / "w" / "Test", level=200)
    assert levels(read(tmp_path / "one", test_root=str(tmp_path / "two"))) == ({100}, {200})
    classes(tmp_path / "three", level=250)
    assert levels(read(tmp_path / "one", test_root=str(tmp_path / "three"))) == ({100}, {250})


def test_what_is_no_task_is_refused_in_words(tmp_path: Path) -> None:
    classes(tmp_path / "single" / "wrapper", "a")
    with pytest.raises(DataError, match=r"wrapper holds a single class folder, 'a': a task needs at least two"):
        read(tmp_path / "single")
    classes(tmp_path / "half" / "test")
    classes(tmp_path / "half" / "val")
    with pytest.raises(DataError, match=r"half holds test and val, but no training split. .*data.test_root="):
        read(tmp_path / "half")
    for name in ("train", "Train", "test"):
        classes(tmp_path / "twice" / name)
    with pytest.raises(DataError, match=r"twice holds Train and train: two folders for one split"):
        read(tmp_path / "twice")
    classes(tmp_path / "other" / "train")
    classes(tmp_path / "other" / "test", "ac")
    with pytest.raises(DataError, match="in one of them only: b, c"):
        read(tmp_path / "other")
    classes(tmp_path / "empty")
    (tmp_path / "empty" / "c").mkdir()
    with pytest.raises(DataError, match="hold no readable image: c"):
        read(tmp_path / "empty")


def test_what_was_found_is_said_and_what_was_not_read_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    classes(tmp_path / "d")
    for name in ("x.heic", "y.HEIC", "list.txt", "LICENSE"):
        (tmp_path / "d" / "a" / name).write_text("no image")
    Image.new("L", (5, 5), 70).save(tmp_path / "d" / "a" / "g.pgm")
    Image.new("RGB", (5, 5), 70).save(tmp_path / "d" / "b" / "h.jfif", format="JPEG")
    Image.new("RGB", (5, 5), 70).save(tmp_path / "d" / "b" / "i.avif")
    made = read(tmp_path / "d")
    assert len(made.train) + len(made.test) == 7
    assert f"{tmp_path / 'd'}: 7 images of 2 classes (a, b); skipped: 2 .heic, 1 .txt, 1 no ending" in caplog.text
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warned == [f"{tmp_path / 'd'}: 2 .heic are pictures of a kind that is not read: convert them"]
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "x.heic").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images .* It holds 1 \.heic\."):
        pool(Store(tmp_path / "cache"), str(tmp_path / "heic"))


def test_pipes_and_devices_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    classes(tmp_path / "d")
    os.mkfifo(tmp_path / "d" / "a" / "pipe.png")
    os.mkfifo(tmp_path / "d" / "pipe.png")
    (tmp_path / "d" / "a" / "zero.png").symlink_to("/dev/zero")
    made = read(tmp_path / "d")
    assert len(made.train) + len(made.test) == 4 == len(pool(Store(tmp_path / "cache"), str(tmp_path / "d")))
    assert "skipped: 3 no plain file" in caplog.text


def test_the_split_of_a_folder_is_stratified(tmp_path: Path) -> None:
    classes(tmp_path / "d", "abcdefghijkl", count=5)
    made = read(tmp_path / "d", train_count=12)
    assert made.train.labels is not None and made.test.labels is not None and made.rest is not None
    assert np.bincount(made.train.labels).tolist() == [1] * 12 == np.bincount(made.test.labels).tolist()
    assert len(made.rest) == 36
