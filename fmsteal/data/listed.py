"""Photographs whose splits are lists of files: CUB-200-2011 and MIT Indoor-67, as their authors pack them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, read_json
from fmsteal.data.available import look_with
from fmsteal.data.broken import Broken
from fmsteal.data.image_folder import NAMES, decode_folder
from fmsteal.data.images import Images, Task, load
from fmsteal.data.layout import classes_of
from fmsteal.data.opening import MAX_PIXELS

log = logging.getLogger(__name__)


def look_for_task(dataset: Literal["cub200", "indoor67"], root: str) -> None:
    """Check that the lists of the splits and the folder of images exist.

    Raises:
        DataError: one of them does not exist.
    """
    folder = Path(root).expanduser()
    _SPLITS[dataset](folder)
    classes_of(folder / _IMAGES[dataset])


@look_with(look_for_task)
def task(
    store: Store,
    dataset: Literal["cub200", "indoor67"],
    root: str,
    *,
    size: int = 224,
    train_count: int | None = None,
    test_count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Task:
    """A classification task with its authors' split.

    Args:
        store: where the decoded images are kept.
        dataset: ``cub200``: ``root`` holds ``images/``, ``images.txt`` and ``train_test_split.txt``; ``indoor67``:
            ``Images/``, ``TrainImages.txt`` and ``TestImages.txt``.
        root: the folder that the data set's archive unpacks to.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        seed: seed of the subsets.
        broken: what to do with a file that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of a file; a larger one is not decoded.
    """
    folder = Path(root).expanduser()
    splits = _SPLITS[dataset](folder)
    place = decode_folder(store, folder / _IMAGES[dataset], size, broken, max_pixels, labelled=True)
    images, where = load(place), {name: at for at, name in enumerate(read_json(place / NAMES))}

    def part(listed: list[str]) -> Images:
        missing = [name for name in listed if name not in where]
        if len(missing) == len(listed):
            raise DataError(f"None of the {len(listed)} images of a split of {folder} is there.")
        if missing:
            said = f"{len(missing)} images listed under {folder} are not there, first {missing[0]}."
            if broken == "error":
                raise DataError(said)
            log.warning(said)
        return images.subset(np.array(sorted(where[name] for name in listed if name in where), dtype=np.int64))

    train, test = (part(listed) for listed in splits)
    return Task(train, test).reduced(train_count, test_count, seed)


def _cub200(folder: Path) -> tuple[list[str], list[str]]:
    name = dict(line.split(maxsplit=1) for line in _lines(folder / "images.txt"))
    flag = dict(line.split(maxsplit=1) for line in _lines(folder / "train_test_split.txt"))
    train, test = ([name[number] for number in name if flag.get(number) == which] for which in ("1", "0"))
    return train, test


def _indoor67(folder: Path) -> tuple[list[str], list[str]]:
    return _lines(folder / "TrainImages.txt"), _lines(folder / "TestImages.txt")


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"There is no {file}. Give the folder that the data set's archive unpacks to: data.root=/path.")
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]


_SPLITS = {"cub200": _cub200, "indoor67": _indoor67}
_IMAGES = {"cub200": "images", "indoor67": "Images"}
