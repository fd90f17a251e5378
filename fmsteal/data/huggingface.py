"""Data sets of Hugging Face's ``datasets``: a folder written by ``save_to_disk``, or a name in its local cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.data.available import look_with
from fmsteal.data.broken import Broken
from fmsteal.data.hub_datasets import open_folder, open_named
from fmsteal.data.images import Images, Labels, Task, choose_ids
from fmsteal.data.label_texts import number_labels
from fmsteal.data.numbered import Decoding, PartSizes, make_pool, make_task
from fmsteal.data.opening import MAX_PIXELS, open_image
from fmsteal.identity.rules import declare


def look_for_pool(
    root: str | None = None,
    dataset: str | None = None,
    config: str | None = None,
    split: str = "train",
    image: str | None = None,
    count: int | None = None,
    download: bool = False,
) -> None:
    """Check that a data set is there and has a column of images, ``count`` of them.

    Raises:
        DataError: it is not, or has none.
    """
    opened = open_split(open_dataset(root, dataset, config, download), split)
    choose_ids(len(SplitImages(opened, split, image, None, labelled=False)), count, 0)


def look_for_task(
    root: str | None = None,
    dataset: str | None = None,
    config: str | None = None,
    split: str = "train",
    test_split: str | None = "test",
    image: str | None = None,
    label: str | None = None,
    download: bool = False,
) -> None:
    """Check that a data set is there, with columns of images and labels.

    Raises:
        DataError: it is not, or has none.
    """
    opened = open_dataset(root, dataset, config, download)
    for name, found in ((split, open_split(opened, split)), (str(test_split), open_test_split(opened, test_split))):
        if found is not None:
            SplitImages(found, name, image, label, labelled=True)


@look_with(look_for_pool)
@declare(machine=frozenset({"download"}))
def pool(
    store: Store,
    root: str | None = None,
    *,
    dataset: str | None = None,
    config: str | None = None,
    split: str = "train",
    image: str | None = None,
    size: int = 32,
    count: int | None = None,
    seed: int = 0,
    download: bool = False,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """A query set: the images of a split without labels, or ``count`` chosen at random; no others are decoded.

    Args:
        store: where the decoded images are kept.
        root: a folder that ``save_to_disk`` has written.
        dataset: instead of ``root``, a name on the hub; it is read from the local cache of ``datasets``.
        config: the configuration of ``dataset``, if it has several.
        split: which split, where there are several.
        image: the column of the images; None for the only one.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        count: number of images, chosen at random; None for all.
        seed: seed of the choice.
        download: whether to fetch ``dataset`` from the hub if it is not in the cache.
        broken: what to do with an image that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: the data set is not there, has no column of images, or an image cannot be decoded.
    """
    opened = open_split(open_dataset(root, dataset, config, download), split)
    rows = SplitImages(opened, split, image, None, labelled=False)
    return make_pool(store, rows, Decoding(size, broken, max_pixels), count, seed)


@look_with(look_for_task)
@declare(machine=frozenset({"download"}))
def task(
    store: Store,
    root: str | None = None,
    *,
    dataset: str | None = None,
    config: str | None = None,
    split: str = "train",
    test_split: str | None = "test",
    image: str | None = None,
    label: str | None = None,
    size: int = 32,
    test_share: float = 0.2,
    train_count: int | None = None,
    test_count: int | None = None,
    rest_count: int | None = None,
    seed: int = 0,
    download: bool = False,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Task:
    """A classification task; splits and subsets that are made here are stratified by class.

    Args:
        store: where the decoded images are kept.
        root: a folder that ``save_to_disk`` has written.
        dataset: instead of ``root``, a name on the hub; it is read from the local cache of ``datasets``.
        config: the configuration of ``dataset``, if it has several.
        split: the training split, where there are several.
        test_split: the test split; None sets aside ``test_share`` of the training images by ``seed``.
        image: the column of the images; None for the only one.
        label: the column of the labels (``ClassLabel``, whole numbers or names); None for the only ``ClassLabel``.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        test_share: see ``test_split``.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        rest_count: number of training images that ``train_count`` leaves out and that are decoded all the same, for
            ``query=same``; None for all of them.
        seed: seed of the split and the subsets.
        download: whether to fetch ``dataset`` from the hub if it is not in the cache.
        broken: what to do with an image that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: the data set is not there, has no such column, or an image cannot be decoded.
    """
    opened = open_dataset(root, dataset, config, download)
    first = SplitImages(open_split(opened, split), split, image, label, labelled=True)
    tests = open_test_split(opened, test_split)
    second = None if tests is None else SplitImages(tests, str(test_split), image, label, labelled=True)
    parts = PartSizes(train_count, test_count, rest_count, test_share, seed)
    return make_task(store, first, second, Decoding(size, broken, max_pixels), parts)


def open_dataset(root: str | None, dataset: str | None, config: str | None, download: bool) -> Any:
    """The splits of a data set, or its only one.

    Raises:
        ConfigError: not exactly one of folder and name is given.
        DataError: there is no such data set.
    """
    if (root is None) == (dataset is None):
        raise ConfigError(
            "A data set of Hugging Face is a folder, query.root=/path, or a name, query.dataset=NAME (data.root, "
            f"data.dataset): {'neither' if root is None else 'both'} is given."
        )
    if dataset is not None:
        return open_named(dataset, config, download=download)
    return open_folder(Path(str(root)).expanduser())


def open_split(opened: Any, split: str) -> Any:
    """A split of a data set; a data set of a single one is that split if it has its name, or none.

    Raises:
        DataError: there is no such split.
    """
    there = list(opened) if isinstance(opened, dict) else [str(opened.split or split)]
    if split not in there:
        raise DataError(f"The data set has no split '{split}', but {', '.join(there)}: query.split=NAME (data.split).")
    return opened[split] if isinstance(opened, dict) else opened


def open_test_split(opened: Any, split: str | None) -> Any:
    """The test split of a data set, None if some of the training images are to be set aside.

    Raises:
        DataError: there is no such split.
    """
    if split is None:
        return None
    if not isinstance(opened, dict) or split not in opened:
        there = ", ".join(opened) if isinstance(opened, dict) else "is a single one"
        raise DataError(
            f"The data set has no test split '{split}' ({there}): data.test_split=NAME, or data.test_split=null sets "
            "data.test_share of the images aside."
        )
    return opened[split]


class SplitImages:
    """The images of one split, by number: `fmsteal.data.numbered.NumberedImages`."""

    def __init__(self, split: Any, name: str, image: str | None, label: str | None, *, labelled: bool) -> None:
        """Take the column ``image``, and with ``labelled`` the column ``label``.

        Raises:
            DataError: there is no such column, or a row has no label.
        """
        import datasets

        column = _find_column(split, image, datasets.Image, "image")
        self.slug = f"{split.info.dataset_name or split.builder_name or 'dataset'}-{name}"
        self.spec: Mapping[str, Any] = {"files": _stamps(split), "rows": len(split), "split": name, "image": column}
        self.labels: Labels | None = None
        self.classes: Sequence[str] = ()
        if labelled:
            self.labels, self.classes = _read_labels(split, _find_column(split, label, datasets.ClassLabel, "label"))
        self._split, self._column = (
            split.select_columns([column]).cast_column(column, datasets.Image(decode=False)),
            column,
        )
        self._where = name

    def __len__(self) -> int:
        return len(self._split)

    def name(self, at: int) -> str:
        """Split and row of an image."""
        return f"row {at} of {self._where}"

    def open(self, at: int, size: int, max_pixels: int) -> Image.Image:
        """Open an image, see `open_image`."""
        cell = self._split[at][self._column]
        if cell is None or (cell["bytes"] is None and not cell["path"]):
            raise DataError("it has no image")
        return open_image(Path(cell["path"]) if cell["bytes"] is None else BytesIO(cell["bytes"]), size, max_pixels)


def _find_column(split: Any, wanted: str | None, kind: type, option: str) -> str:
    """The column that is wanted, or the only one of a kind."""
    there = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in split.features.items())
    fitting = [name for name, feature in split.features.items() if isinstance(feature, kind)]
    if wanted is not None:
        if wanted not in split.features or (option == "image" and wanted not in fitting):
            raise DataError(f"The data set has no column '{wanted}' of {option}s, but {there}.")
        return wanted
    if len(fitting) != 1:
        raise DataError(
            f"The data set has {len(fitting)} columns of {kind.__name__}: name the one of {option}s, "
            f"query.{option}=NAME (data.{option}). It has {there}."
        )
    return fitting[0]


def _read_labels(split: Any, column: str) -> tuple[Labels, Sequence[str]]:
    feature, rows = split.features[column], split.select_columns([column]).with_format("arrow")[:]
    values = rows[column].to_pylist()
    for at, value in enumerate(values):
        if value is None or value == -1 or isinstance(value, bool | float | list | dict):
            raise DataError(f"Row {at} of the column '{column}' is {value}, which is no label: choose data.label=NAME.")
    if hasattr(feature, "names"):
        return np.array(values, dtype=np.int64), list(feature.names)
    return number_labels([str(value) for value in values])


def _stamps(split: Any) -> list[list[Any]]:
    """Names, sizes and times of the files behind a split."""
    files = [Path(each["filename"]) for each in split.cache_files]
    return [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
