"""Images in memory or memory-mapped: uint8 ``(N, 3, H, W)``, with labels where there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fmsteal.errors import DataError
from fmsteal.store import read_json, write_json

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """A set of images.

    Attributes:
        pixels: uint8 ``(N, 3, H, W)``; may be a read-only memory map.
        digest: identifies the content (hex); sets with equal digests hold the same images in the same order.
        labels: int64 ``(N,)``, or None for images without labels (a query set).
        classes: the class names, in label order.
    """

    pixels: Pixels
    digest: str
    labels: Labels | None = None
    classes: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[1] != 3 or self.pixels.dtype != np.uint8:
            raise DataError(f"Images must be uint8 (N, 3, H, W), not {self.pixels.dtype} {self.pixels.shape}.")
        if self.labels is None:
            return
        if self.labels.shape != (len(self),):
            raise DataError(f"{len(self)} images, but labels of shape {self.labels.shape}.")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise DataError(
                f"Labels run from {self.labels.min()} to {self.labels.max()}, but there are {len(self.classes)} "
                "classes."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, ids: Ids) -> Images:
        """The images ``ids``, in that order, in memory."""
        pixels = np.ascontiguousarray(self.pixels[ids])
        labels = None if self.labels is None else self.labels[ids]
        return Images(pixels, content_digest(pixels, labels), labels, self.classes)

    def split(self, share: float, seed: int) -> tuple[Images, Images]:
        """A random split in two; ``share`` of the images come into the second part."""
        order = np.random.default_rng(seed).permutation(len(self))
        held = round(len(self) * share)
        if not 0 < held < len(self):
            raise DataError(f"data.test_share={share} of {len(self)} images leaves an empty split.")
        return self.subset(order[held:]), self.subset(order[:held])

    def some(self, count: int | None, seed: int) -> Images:
        """A random ``count`` of the images, in their order; all of them for None."""
        if count is None or count == len(self):
            return self
        if not 0 < count < len(self):
            raise DataError(f"{count} images are asked for of {len(self)}.")
        return self.subset(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def image_digests(self, ids: Ids) -> list[bytes]:
        """The 16-byte digest of each image's content: equal images have equal digests, whatever their id."""
        return [hashlib.blake2b(self.pixels[i].tobytes(), digest_size=16).digest() for i in ids]


@dataclass(frozen=True)
class Task:
    """What the victim was made for: a training and a test split over the same classes."""

    train: Images
    test: Images

    def __post_init__(self) -> None:
        if list(self.train.classes) != list(self.test.classes):
            odd = sorted(set(self.train.classes) ^ set(self.test.classes))
            raise DataError(
                f"The training split has {len(self.train.classes)} classes and the test split "
                f"{len(self.test.classes)}; in one of them only: {', '.join(odd[:10]) or 'the order differs'}."
            )

    @property
    def num_classes(self) -> int:
        """How many classes the task has."""
        return len(self.train.classes)


def content_digest(pixels: Pixels, labels: Labels | None = None) -> str:
    """SHA-256 over shape, pixels and labels, as hex."""
    total = hashlib.sha256(repr(pixels.shape).encode())
    for start in range(0, len(pixels), 4096):
        total.update(np.ascontiguousarray(pixels[start : start + 4096]).tobytes())
    if labels is not None:
        total.update(labels.tobytes())
    return total.hexdigest()


def save(folder: Path, pixels: Pixels, labels: Labels | None = None, classes: Sequence[str] = ()) -> None:
    """Write a set of images into an artifact's folder."""
    np.save(folder / "pixels.npy", pixels)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    write_json(folder / "images.json", {"digest": content_digest(pixels, labels), "classes": list(classes)})


def load(folder: Path) -> Images:
    """Open a set of images, pixels memory-mapped."""
    meta = read_json(folder / "images.json")
    labels = folder / "labels.npy"
    return Images(
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        digest=meta["digest"],
        labels=np.load(labels) if labels.exists() else None,
        classes=tuple(meta["classes"]),
    )
