"""Sets of images that are opened by number: chosen first, so that no other image is read, then decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, digest
from fmsteal.data.balanced import order_stratified
from fmsteal.data.broken import Broken, account_for
from fmsteal.data.decode import decode
from fmsteal.data.images import Ids, Images, Labels, Task, choose_ids, load, save
from fmsteal.data.opening import lift_pillow_limit

DECODER = 1  # increased when the same images are decoded differently


class NumberedImages(Protocol):
    """Encoded images, each read when it is opened."""

    @property
    def slug(self) -> str:
        """A short name, for folders and progress."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """What decides their content: names, sizes and times of files."""

    @property
    def labels(self) -> Labels | None:
        """int64 ``(n,)``, or None."""

    @property
    def classes(self) -> Sequence[str]:
        """The class names, in label order."""

    def __len__(self) -> int: ...

    def name(self, at: int) -> str:
        """Where an image is, for messages."""

    def open(self, at: int, size: int, max_pixels: int) -> Image.Image:
        """Open an image, which is shown with ``size`` pixels and may have ``max_pixels``; from several threads."""


@dataclass(frozen=True)
class Decoding:
    """How images are decoded.

    Attributes:
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        broken: what to do with an image that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.
    """

    size: int
    broken: Broken
    max_pixels: int


def decode_chosen(store: Store, images: NumberedImages, ids: Ids, how: Decoding, *, labelled: bool) -> Images:
    """The images ``ids`` as an artifact, in that order; no other image is read.

    Raises:
        DataError: an image cannot be decoded; the message names it.
    """
    labels = images.labels if labelled else None
    spec = {
        "of": images.spec,
        "ids": _hash(ids),
        "size": how.size,
        "resampling": "bilinear",
        "labels": None if labels is None else [_hash(labels), list(images.classes)],
        "broken": how.broken,
        "decoder": DECODER,
        "max_pixels": how.max_pixels,
    }

    def read(at: int) -> tuple[Image.Image, int]:
        number = int(ids[at])
        return images.open(number, how.size, how.max_pixels), -1 if labels is None else int(labels[number])

    def build(out: Path, scratch: Path) -> None:
        def tell(done: int, of: int) -> None:
            store.tell(f"decode {images.slug}", done, of)

        with lift_pillow_limit():
            found = decode(len(ids), read, how.size, scratch, tell)
        account_for(found.faults, _Names(images, ids), how.broken, "image", "Replace them")
        kept = None if labels is None else found.labels[found.sound]
        save(out, found.into(out), kept, images.classes if labelled else ())

    return load(store.get("images", f"{images.slug}-{how.size}", spec, build))


def make_pool(store: Store, images: NumberedImages, how: Decoding, count: int | None, seed: int) -> Images:
    """A query set: all images without labels, or ``count`` of them chosen at random."""
    return decode_chosen(store, images, choose_ids(len(images), count, seed), how, labelled=False)


@dataclass(frozen=True)
class PartSizes:
    """How many images a task's parts have, each chosen at random and stratified by class.

    Attributes:
        train: training images; None for all.
        test: test images; None for all.
        rest: training images that ``train`` leaves out and that are decoded all the same; None for all of these.
        share: of the images, set aside for testing if there is no test split.
        seed: of the choice.
    """

    train: int | None
    test: int | None
    rest: int | None
    share: float
    seed: int


def make_task(
    store: Store, train: NumberedImages, test: NumberedImages | None, how: Decoding, parts: PartSizes
) -> Task:
    """A classification task; what is in no part is not read.

    Raises:
        DataError: there are no labels, fewer than two classes, or the test split has others.
    """
    labels = _require_labels(train)
    first = np.arange(len(train))
    if test is None:
        held = round(len(train) * parts.share)
        if not 0 < held < len(train):
            raise DataError(f"data.test_share={parts.share} of {len(train)} images leaves an empty split.")
        first = np.sort(order_stratified(labels, parts.seed)[: len(train) - held])
        others, second = train, np.setdiff1d(np.arange(len(train)), first)
    else:
        others, second = test, np.arange(len(test))
    chosen = _choose(first, labels, parts.train, parts.seed)
    rest = _choose(np.setdiff1d(first, chosen), None, parts.rest, parts.seed)
    second = _choose(second, _require_labels(others), parts.test, parts.seed)

    def part(images: NumberedImages, ids: Ids) -> Images:
        return decode_chosen(store, images, ids, how, labelled=True)

    training, testing = part(train, chosen), part(others, second)
    return Task(training, _renumber(testing, training.classes), part(train, rest) if len(rest) else None)


def _choose(ids: Ids, labels: Labels | None, count: int | None, seed: int) -> Ids:
    """``count`` of the ids, ascending, chosen at random, stratified if there are labels."""
    if count is None:
        return ids
    if labels is None:
        return ids[choose_ids(len(ids), count, seed)] if count else ids[:0]
    choose_ids(len(ids), count, seed)  # refuses a number that there is not
    return np.sort(ids[order_stratified(labels[ids], seed)[:count]])


def _require_labels(images: NumberedImages) -> Labels:
    if images.labels is None or len(images.classes) < 2:
        raise DataError(f"{images.slug} has {len(images.classes)} classes: a task needs at least two.")
    return images.labels


def _renumber(images: Images, classes: Sequence[str]) -> Images:
    """The same images, their labels by the classes of the training split.

    Raises:
        DataError: a class is not among them.
    """
    if list(images.classes) == list(classes) or images.labels is None:
        return images
    place = {name: at for at, name in enumerate(classes)}
    there = [images.classes[label] for label in np.unique(images.labels)]
    if unknown := [name for name in there if name not in place]:
        raise DataError(f"The test split has {len(unknown)} classes that the training split lacks, first {unknown[0]}.")
    now = np.array([place.get(name, -1) for name in images.classes], dtype=np.int64)
    named = digest([images.digest, list(classes)])
    return replace(images, digest=named, labels=now[images.labels], classes=tuple(classes))


def _hash(numbers: Ids) -> str:
    return hashlib.sha256(np.asarray(numbers, dtype=np.int64).tobytes()).hexdigest()


class _Names(Sequence[str]):
    """Names of the chosen images, made when they are asked for."""

    def __init__(self, images: NumberedImages, ids: Ids) -> None:
        self._images, self._ids = images, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, at: Any) -> Any:
        return self._images.name(int(self._ids[at]))
