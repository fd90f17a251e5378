"""The data sets that torchvision knows, through torchvision's own loaders, decoded once into the store."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torchvision

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store, digest
from fmsteal.data.available import look_with
from fmsteal.data.decode import decode, describe_first_fault
from fmsteal.data.images import Images, Task, choose_ids, load, save
from fmsteal.identity.rules import declare


def look_for_task(
    store: Store,
    dataset: str,
    root: str,
    train: dict[str, Any],
    test: dict[str, Any] | None,
    size: int = 32,
    download: bool = True,
) -> None:
    """Check that both splits are available, downloading them if allowed.

    Raises:
        DataError: a split is not available.
    """
    for split in (train, test):
        if split is not None:
            look_for_pool(store, dataset, root, split, size, download)


def look_for_pool(
    store: Store,
    dataset: str,
    root: str,
    split: dict[str, Any],
    size: int = 32,
    download: bool = True,
    count: int | None = None,
    seed: int = 0,
) -> None:
    """Check that a split is already decoded or available, downloading it if allowed.

    Raises:
        DataError: the split is not available.
    """
    if store.path("images", *_named(dataset, root, split, size, count, seed)).is_dir():
        return
    place = Path(root).expanduser().absolute()
    if dataset in torchvision.datasets.__all__ and "download" not in _options(dataset):  # ImageNet: it would unpack
        if not place.is_dir():
            raise DataError(
                f"There is no folder {place} with {dataset}'s archives: data.root=/path (query.root=/path)."
            )
        return
    _open(dataset, place, split, download)


@look_with(look_for_task)
@declare(machine=frozenset({"root", "download"}))
def task(
    store: Store,
    dataset: str,
    root: str,
    *,
    train: dict[str, Any],
    test: dict[str, Any] | None,
    size: int = 32,
    download: bool = True,
    train_count: int | None = None,
    test_count: int | None = None,
    test_share: float = 0.2,
    test_each: int | None = None,
    without: Sequence[str] = (),
    seed: int = 0,
) -> Task:
    """A classification task.

    Args:
        store: where the decoded images are kept.
        dataset: the class's name in `torchvision.datasets`.
        root: the folder that class reads from, and downloads into.
        train: arguments of that class for the training split (``{train: true}``, ``{split: train}``); a split with
            some unlabelled images (``{split: train+unlabeled}``) has no labels at all, for victims that need none.
        test: the same for the test split; None if there are no splits: ``test_share`` is then set aside by ``seed``.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        download: whether to fetch what is missing.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        test_share: see ``test``.
        test_each: set aside this many images of each class instead, by ``seed``.
        without: names of classes to leave out.
        seed: seed of the split and the subsets.
    """
    if test_each is not None and test is not None:
        raise ConfigError(f"data.test_each={test_each} is for data sets without a test split: {dataset} has one.")
    first = decode_split(store, dataset, root, train, size, download)
    first = first.without(without) if without else first
    if test is None:
        training, testing = first.split(test_share, seed) if test_each is None else first.split_each(test_each, seed)
    else:
        other = decode_split(store, dataset, root, test, size, download)
        training, testing = first, other.without(without) if without else other
    if training.labels is None:  # STL-10's train+unlabeled, for pre-training: the task's classes are known all the same
        training = replace(training, classes=testing.classes)
    return Task(training, testing).reduced(train_count, test_count, seed)


@look_with(look_for_pool)
@declare(machine=frozenset({"root", "download"}))
def pool(
    store: Store,
    dataset: str,
    root: str,
    *,
    split: dict[str, Any],
    size: int = 32,
    download: bool = True,
    count: int | None = None,
    seed: int = 0,
) -> Images:
    """A query set: the images of one split without labels, or ``count`` chosen at random; no others are decoded."""
    return decode_split(store, dataset, root, split, size, download, count, seed).unlabelled()


def decode_split(
    store: Store,
    dataset: str,
    root: str,
    split: dict[str, Any],
    size: int,
    download: bool,
    count: int | None = None,
    seed: int = 0,
) -> Images:
    """One split, or ``count`` of its images chosen at random, as an artifact."""
    place = Path(root).expanduser().absolute()

    def build(out: Path, scratch: Path) -> None:
        items = _open(dataset, place, split, download)
        some = choose_ids(len(items), count, seed)

        def tell(done: int, of: int) -> None:
            store.tell(f"decode {dataset}", done, of)

        found = decode(len(some), lambda at: items[some[at]], size, scratch, tell)
        if found.faults:
            first = describe_first_fault(found.faults, some.tolist())
            raise DataError(f"{len(found.faults)} images of {dataset} cannot be read, first number {first}.")
        unlabelled = found.labels.min() < 0  # STL-10's unlabelled split
        named = getattr(items, "classes", None) or getattr(items, "categories", None)
        classes = [] if unlabelled else [str(c) for c in named or range(found.labels.max() + 1)]
        save(out, found.into(out), None if unlabelled else np.array(found.labels), classes)

    return load(store.get("images", *_named(dataset, root, split, size, count, seed), build))


def _named(
    dataset: str, root: str, split: dict[str, Any], size: int, count: int | None, seed: int
) -> tuple[str, dict[str, Any]]:
    """Slug and spec of the artifact of a split."""
    spec = {
        "dataset": dataset,
        "split": split,
        "size": size,
        "root": str(Path(root).expanduser().absolute()),
        "torchvision": torchvision.__version__,
        "some": None if count is None else [count, seed],
    }
    return f"{dataset.lower()}-{digest(split)[:4]}-{size}", spec


def _options(dataset: str) -> Mapping[str, Any]:
    return inspect.signature(getattr(torchvision.datasets, dataset)).parameters


def _open(dataset: str, root: Path, split: dict[str, Any], download: bool) -> Any:
    known = torchvision.datasets.__all__
    if dataset not in known:
        raise ConfigError(f"torchvision has no data set '{dataset}'. It has: {', '.join(sorted(known))}.")
    make = getattr(torchvision.datasets, dataset)
    try:
        return make(root, **split, download=False)
    except TypeError:  # ImageNet's class takes no such option, and downloads nothing
        return make(root, **split)
    except (RuntimeError, FileNotFoundError) as missing:
        reason: Exception = missing
    if download:
        try:
            return make(root, **split, download=True)
        except Exception as error:  # whatever a refused connection raises
            reason = error
    raise DataError(
        f"{dataset} is not under {root} and could not be fetched ({type(reason).__name__}: {reason}). Fetch it where "
        f"there is a network, with torchvision.datasets.{dataset}(root, download=True), and give that folder "
        "as its `root`: data.root=/path, query.root=/path or evaluation.downstream.NAME.root=/path."
    )
