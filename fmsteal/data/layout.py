"""How a folder of labelled images is laid out: its splits and classes, even below a folder that only wraps them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.base.errors import DataError
from fmsteal.data.files import is_image, is_plain, list_folder

SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}  # in upper or lower case: Train is train


@dataclass(frozen=True)
class FolderLayout:
    """Where the class folders are.

    Attributes:
        train: the folder with the classes, that of the training split if there are splits.
        test: the same for the test split; None if there are no splits.
        left: folders beside the splits, which are ignored.
    """

    train: Path
    test: Path | None = None
    left: Sequence[str] = ()


def lay_out(root: Path) -> FolderLayout:
    """Find splits and classes below ``root``.

    A training folder and one for testing or validation beside it are splits, under any of the names in `SPLITS`.
    Validation images are the test split if there is no labelled test split. A folder that holds a single folder and no
    images is just a wrapper of that one, if that one holds folders in turn.

    Raises:
        DataError: there is no such folder, two folders are for one split, or there is no training split beside the
            others.
    """
    if not root.is_dir():
        raise DataError(f"There is no image folder {root}. Give an existing one: data.root=/path.")
    folder = _unwrap(root)
    below = _folders(folder)
    splits = _splits(folder, below)
    others = [splits[name] for name in ("test", "val") if name in splits]
    if "train" in splits and others:
        return _pair(splits["train"], others, below)
    if splits and len(splits) == len(below) and "train" not in splits:
        raise DataError(
            f"{folder} holds {' and '.join(below)}, but no training split. Name that one train, or give the splits: "
            "data.root=/path/to/train data.test_root=/path/to/test."
        )
    return FolderLayout(folder)


def _pair(train: Path, others: Sequence[Path], below: Sequence[str]) -> FolderLayout:
    """The training split, and the first of the others that has its classes, or else the first."""
    classes = classes_of(_unwrap(train))
    test = next((other for other in others if classes_of(_unwrap(other)) == classes), others[0])
    left = [name for name in below if name not in (train.name, test.name)]
    return FolderLayout(_unwrap(train), _unwrap(test), left)


def classes_of(root: Path) -> list[str]:
    """The names of the class folders, sorted.

    Raises:
        DataError: an image lies beside the class folders.
    """
    stray = next((item.path for item in list_folder(root) if _is_stray(item)), None)
    if stray is not None:
        raise DataError(f"{stray} lies outside any class folder; a task is laid out as {root}/<class>/<image>.")
    return _folders(root)


def require_classes(root: Path, classes: Sequence[str]) -> None:
    """Refuse a task of a single class.

    Raises:
        DataError: there is only one class, or none.
    """
    if not classes:
        raise DataError(f"{root} holds no images in class folders; a task is laid out as {root}/<class>/<image>.")
    if len(classes) == 1:
        raise DataError(
            f"{root} holds a single class folder, '{classes[0]}': a task needs at least two, {root}/<class>/<image>."
        )


def _unwrap(folder: Path) -> Path:
    seen: set[str] = set()
    while (real := os.path.realpath(folder)) not in seen:
        seen.add(real)
        below = _folders(folder)
        if len(below) != 1 or any(_is_stray(item) for item in list_folder(folder)) or not _folders(folder / below[0]):
            break
        folder = folder / below[0]
    return folder


def _splits(folder: Path, below: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        matching = [name for name in below if name.lower() in names]
        if len(matching) > 1:
            raise DataError(
                f"{folder} holds {' and '.join(matching)}: two folders for one split. Remove one, or give the splits: "
                "data.root=/path/to/train data.test_root=/path/to/test."
            )
        if matching:
            found[split] = folder / matching[0]
    return found


def _folders(folder: Path) -> list[str]:
    return [item.name for item in list_folder(folder) if item.is_dir()]


def _is_stray(item: os.DirEntry[str]) -> bool:
    return is_image(item.name) and not item.is_dir() and is_plain(item)
