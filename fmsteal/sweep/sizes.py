"""How many images a job's data set and query set have, and how many classes, without opening them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fmsteal.base.errors import DataError
from fmsteal.data.files import find_images
from fmsteal.data.layout import classes_of, lay_out

DIGITS = 1797  # scikit-learn's
SPLITS: Mapping[str, Mapping[str, int]] = {  # torchvision's data sets, by split; "all" where there are none
    "CIFAR10": {"train": 50_000, "test": 10_000},
    "CIFAR100": {"train": 50_000, "test": 10_000},
    "MNIST": {"train": 60_000, "test": 10_000},
    "FashionMNIST": {"train": 60_000, "test": 10_000},
    "SVHN": {"train": 73_257, "test": 26_032},
    "GTSRB": {"train": 26_640, "test": 12_630},
    "DTD": {"train": 1_880, "test": 1_880, "val": 1_880},
    "Food101": {"train": 75_750, "test": 25_250},
    "STL10": {"train": 5_000, "test": 8_000, "unlabeled": 100_000, "train+unlabeled": 105_000},
    "EuroSAT": {"all": 27_000},
    "Caltech256": {"all": 29_780},  # without its clutter
    "ImageNet": {"train": 1_281_167, "val": 50_000},
}
CLASSES = {  # of the data sets above and of `LISTED`
    "CIFAR10": 10, "CIFAR100": 100, "MNIST": 10, "FashionMNIST": 10, "SVHN": 10, "GTSRB": 43, "DTD": 47, "Food101": 101,
    "STL10": 10, "EuroSAT": 10, "Caltech256": 256, "ImageNet": 1000, "cub200": 200, "indoor67": 67,
}  # fmt: skip
LISTED = {"cub200": (5_994, 5_794), "indoor67": (5_360, 1_340)}  # training and test images, by their authors' lists
BATCH32 = 128_116  # images in a batch of ImageNet at 32 pixels, approximately


class TaskSize(NamedTuple):
    """The images of a task: of both splits, and the side of each in pixels."""

    train: int
    test: int
    side: int


class PoolSize(NamedTuple):
    """The images of a query set, and the side of each in pixels."""

    images: int
    side: int


def find_task_size(node: Mapping[str, Any]) -> TaskSize | None:
    """The size of the task that a resolved ``data`` node makes; None if it cannot be known without opening it."""
    found = _look_up(_TASKS, node)
    if found is None:
        return None
    train, test = found
    return TaskSize(node.get("train_count") or train, node.get("test_count") or test, int(node.get("size") or 32))


def find_classes(node: Mapping[str, Any]) -> int | None:
    """The number of classes of the task that a resolved ``data`` node makes; None if it cannot be known."""
    of = _CLASSES.get(str(node.get("_target_", "")).removeprefix("fmsteal.data."))
    return None if of is None else of(node)


def find_pool_size(node: Mapping[str, Any], task: TaskSize | None = None) -> PoolSize | None:
    """The size of the query set that a resolved ``query`` node makes; None if it cannot be known."""
    side = int(node.get("size") or (node.get("of") or {}).get("size") or (task.side if task else 32))
    count = node.get("count") or _look_up(_POOLS, node)
    return None if count is None else PoolSize(int(count), side)


def _look_up(table: Mapping[str, Callable[[Mapping[str, Any]], Any]], node: Mapping[str, Any]) -> Any:
    of = table.get(str(node.get("_target_", "")).removeprefix("fmsteal.data."))
    return None if of is None else of(node)


def _digits(node: Mapping[str, Any]) -> tuple[int, int]:
    test = int(node.get("test") or 600)
    return DIGITS - test, test


def _torchvision(node: Mapping[str, Any]) -> tuple[int, int] | None:
    train, test = _split(node, "train"), _split(node, "test")
    if train is None or test is not None or node.get("test") is not None:
        return None if train is None or test is None else (train, test)
    each, share = node.get("test_each"), node.get("test_share")
    held = each * CLASSES.get(str(node.get("dataset")), 0) if each else round(train * (share or 0))
    return train - held, held


def _split(node: Mapping[str, Any], name: str) -> int | None:
    """The number of images in a split of torchvision's data set, whose option for it is a name or true or false."""
    known, split = SPLITS.get(str(node.get("dataset")), {}), node.get(name)
    if not isinstance(split, Mapping):
        return None
    if "train" in split:
        return known.get("train" if split["train"] else "test")
    return known.get(str(split.get("split", "all")))


def _folder(node: Mapping[str, Any]) -> tuple[int, int] | None:
    train = _files(node.get("root"))
    if train is None:
        return None
    if node.get("test_root"):
        return train, _files(node["test_root"]) or 0
    held = round(train * float(node.get("test_share") or 0))
    return train - held, held


def _files(root: Any) -> int | None:
    try:
        return len(find_images(Path(str(root)).expanduser()).names)
    except (DataError, OSError):
        return None


def _count_class_folders(node: Mapping[str, Any]) -> int | None:
    try:
        return len(classes_of(lay_out(Path(str(node.get("root"))).expanduser()).train))
    except (DataError, OSError):
        return None


_TASKS: Mapping[str, Callable[[Mapping[str, Any]], tuple[int, int] | None]] = {
    "digits.digits": _digits,
    "torchvision_sets.task": _torchvision,
    "image_folder.task": _folder,
    "listed.task": lambda node: LISTED.get(str(node.get("dataset"))),
}
_POOLS: Mapping[str, Callable[[Mapping[str, Any]], int | None]] = {
    "torchvision_sets.pool": lambda node: _split(node, "split"),
    "image_folder.pool": lambda node: _files(node.get("root")),
    "imagenet32.pool": lambda node: BATCH32 * len(node.get("batches") or [1]),
}
_CLASSES: Mapping[str, Callable[[Mapping[str, Any]], int | None]] = {
    "digits.digits": lambda node: 10,
    "torchvision_sets.task": lambda node: CLASSES.get(str(node.get("dataset"))),
    "listed.task": lambda node: CLASSES.get(str(node.get("dataset"))),
    "imagenet.task": lambda node: CLASSES["ImageNet"],
    "image_folder.task": _count_class_folders,
}
