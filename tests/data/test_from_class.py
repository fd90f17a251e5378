"""Data sets of any class: each image once, of whatever kind, and told apart by class and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.data import from_class
from fmsteal.data.from_class import convert_image

HERE = "tests.data.test_from_class"
READ: list[int] = []


class Plain:
    """Images of one colour, as arrays."""

    classes = ("even", "odd")

    def __init__(self, count: int = 10, labelled: bool = True, broken: int | None = None) -> None:
        self.count, self.labelled, self.broken = count, labelled, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Any:
        READ.append(place)
        if place == self.broken:
            raise OSError("truncated")
        image = np.full((8, 8, 3), place, np.uint8)
        return (image, place % 2) if self.labelled else image


def node(**options: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.Plain", **options}


def test_a_task_holds_what_the_class_gave_and_reads_it_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    READ.clear()
    for _ in range(2):
        task = from_class.task(store, node(count=10), test=node(count=6), size=8)
    assert len(READ) == 16
    assert task.train.classes == ("even", "odd") and len(task.test) == 6
    assert np.array_equal(np.asarray(task.train.labels), np.arange(10) % 2)
    assert np.array_equal(np.asarray(task.train.pixels)[:, 0, 4, 4], np.arange(10))
    from_class.task(store, node(count=12), test=node(count=6), size=8)
    assert len(READ) == 28, "other options are other images"


def test_a_share_is_set_aside_with_every_class(tmp_path: Path) -> None:
    task = from_class.task(Store(tmp_path), node(count=10), size=8, test_share=0.4, train_count=5)
    assert (len(task.train), len(task.test)) == (5, 4) and task.rest is not None and len(task.rest) == 1
    assert task.test.labels is not None and set(task.test.labels) == {0, 1}


def test_a_query_set_has_no_labels(tmp_path: Path) -> None:
    pool = from_class.pool(Store(tmp_path), node(labelled=False), size=8, count=4)
    assert len(pool) == 4 and pool.labels is None
    assert from_class.pool(Store(tmp_path), node(), size=8).labels is None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train \(.*Plain\): 1 images cannot be read, first number 3 \(OSError"):
        from_class.task(Store(tmp_path), node(broken=3))
    with pytest.raises(DataError, match=r"images without labels"):
        from_class.task(Store(tmp_path), node(labelled=False))
    with pytest.raises(DataError, match=r"data\.train \(builtins\.object\) has no __len__"):
        from_class.task(Store(tmp_path), {"_target_": "builtins.object"})


@pytest.mark.parametrize(
    "image",
    [
        np.full((4, 4), 128, np.uint8),
        np.full((4, 4, 3), 128, np.uint8),
        np.full((3, 4, 4), 128, np.uint8),
        np.full((4, 4, 1), 128, np.uint8),
        torch.full((3, 4, 4), 128 / 255),
        torch.full((1, 4, 4), 128, dtype=torch.uint8),
        Image.new("L", (4, 4), 128),
    ],
    ids=lambda image: f"{type(image).__name__} {getattr(image, 'shape', '')}",
)
def test_an_image_of_each_kind_is_the_same_image(image: Any) -> None:
    assert np.array_equal(np.asarray(convert_image(image).convert("RGB")), np.full((4, 4, 3), 128))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), "not \\(4, 4, 2\\)"),
        (torch.full((3, 4, 4), -1.0), "leave out what normalises it"),
        (np.zeros((4, 4), np.int64), "not int64"),
        ("a.png", "not a str"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        convert_image(image)
