"""Data sets and query sets read from any class that gives images one at a time, as a PyTorch ``Dataset`` does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.decode import decode, describe_first_fault
from fmsteal.data.images import Images, Task, load, save
from fmsteal.identity.keys import node_identity

UNLABELLED = -1


def task(
    store: Store,
    train: dict[str, Any],
    *,
    test: dict[str, Any] | None = None,
    size: int = 32,
    train_count: int | None = None,
    test_count: int | None = None,
    test_share: float = 0.2,
    seed: int = 0,
) -> Task:
    """A classification task of the images that a Python class gives, each decoded once and kept.

    Args:
        store: where the decoded images are kept.
        train: the config of an object with ``__len__`` and ``__getitem__``, which gives ``(image, label)`` by number.
            An image is a Pillow image, an array or a tensor: uint8 ``(h, w)``, ``(h, w, 3)`` or ``(3, h, w)``, or float
            in [0, 1] of those shapes. The object's attribute ``classes``, if it has one, names the classes.
        test: the same for the test images; None sets aside ``test_share`` of the others by ``seed``.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        test_share: see ``test``.
        seed: seed of the split and the subsets.

    Raises:
        DataError: an image cannot be read, or has no label.
    """
    first = decode_object(store, train, "data.train", size)
    if first.labels is None:
        raise DataError(f"data.train ({train['_target_']}) gives images without labels: (image, label) is expected.")
    if test is None:
        training, testing = first.split(test_share, seed, stratified=True)
    else:
        training, testing = first, decode_object(store, test, "data.test", size)
    return Task(training, testing).reduced(train_count, test_count, seed)


def pool(store: Store, images: dict[str, Any], *, size: int = 32, count: int | None = None, seed: int = 0) -> Images:
    """A query set of a class's images (see `task`), or ``count`` of them chosen at random, without labels."""
    return decode_object(store, images, "query.images", size).unlabelled().some(count, seed)


def decode_object(store: Store, node: dict[str, Any], key: str, size: int) -> Images:
    """All images of the object that a config makes, as an artifact; ``key`` is the object's key in the config.

    The artifact is stored under what counts in a job's key: class, source or version, options, content of files.

    Raises:
        DataError: the object does not give images by number, or some cannot be read.
    """
    name, config = str(node["_target_"]), OmegaConf.create(node)

    def make(out: Path, scratch: Path) -> None:
        items = build.make(config)
        if not hasattr(items, "__getitem__") or not hasattr(items, "__len__"):
            raise DataError(f"{key} ({name}) has no __len__ or no __getitem__: it does not give images by number.")
        reading = threading.Lock()  # the object need not be thread-safe

        def read(place: int) -> tuple[Image.Image, int]:
            with reading:
                item = items[place]
            image, label = item[:2] if isinstance(item, tuple | list) else (item, UNLABELLED)
            return convert_image(image), int(label)

        found = decode(len(items), read, size, scratch, lambda done, of: store.tell(f"decode {name}", done, of))
        if found.faults:
            first = describe_first_fault(found.faults, list(range(len(items))))
            raise DataError(f"{key} ({name}): {len(found.faults)} images cannot be read, first number {first}.")
        if not len(found.labels) or found.labels.min() < 0:
            return save(out, found.into(out))
        named = getattr(items, "classes", None) or range(int(found.labels.max()) + 1)
        return save(out, found.into(out), np.array(found.labels), [str(each) for each in named])

    spec = {"images": node_identity(config, key), "size": size}
    return load(store.get("images", f"{name.rpartition('.')[2].lower()}-{size}", spec, make))


def convert_image(image: Any) -> Image.Image:
    """Convert a Pillow image, an array or a tensor to a Pillow image.

    Raises:
        DataError: the image has another shape or type, or is normalised.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image is of Pillow, or an array or tensor, not a {type(image).__name__}")
    image = _lay_channels_last(image)
    if image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise DataError("an image of floats is in [0, 1]: leave out what normalises it, each backbone does that")
        image = (image * 255).round().astype(np.uint8)
    if image.dtype != np.uint8:
        raise DataError(f"an image is uint8, or float in [0, 1], not {image.dtype}")
    return Image.fromarray(np.ascontiguousarray(image))


def _lay_channels_last(image: np.ndarray) -> np.ndarray:
    """Convert an image whose channels may come first to ``(h, w, 3)``, or to ``(h, w)`` if it has one channel.

    Raises:
        DataError: the image has another shape.
    """
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise DataError(f"an image is (h, w), (h, w, 3) or (3, h, w), not {image.shape}")
    return image
