"""Images in memory or memory-mapped: uint8 ``(N, 3, H, W)``, with labels if there are any."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import DataError
from fmsteal.base.store import digest, read_json, write_json
from fmsteal.data.balanced import order_stratified

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]
PIXELS = "pixels.npy"


class Picked:
    """Some rows of an array, ``array[ids]``, read on access: a memory map is never read as a whole."""

    def __init__(self, array: Pixels, ids: Ids) -> None:
        self.array, self.ids = array, ids
        self.shape = (len(ids), *array.shape[1:])
        self.dtype, self.ndim = array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):  # further axes too, for looking at a small set
            return np.asarray(self)[key]
        return self.array[self.ids[key]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.array[self.ids].astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a memory map by its file's name: another process opens it instead of receiving a copy."""
        whole = isinstance(self.array, np.memmap) and isinstance(self.array.base, mmap.mmap)  # not a part of a map
        if whole and self.array.filename is not None:  # type: ignore[attr-defined]
            return _reopened, (str(self.array.filename), self.ids)  # type: ignore[attr-defined]
        return Picked, (self.array, self.ids)


def _reopened(file: str, ids: Ids) -> Picked:
    return Picked(np.load(file, mmap_mode="r"), ids)


@dataclass(frozen=True)
class Images:
    """A set of images.

    Attributes:
        pixels: uint8 ``(N, 3, H, W)``: in memory, a read-only memory map, or some rows of one.
        digest: identifies the content (hex); sets with equal digests hold the same images in the same order.
        labels: int64 ``(N,)``, or None for images without labels (a query set).
        classes: the class names, in label order.
        origin: the digest of the set that this one is a subset of; None if it is not a subset.
        parts: the sets that were joined into this one, in order; results per image are stored under their digests.
    """

    pixels: Pixels | Picked
    digest: str
    labels: Labels | None = None
    classes: Sequence[str] = field(default=())
    origin: str | None = None
    parts: Sequence[Images] = field(default=())

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

    @classmethod
    def of(cls, pixels: Pixels, labels: Labels | None = None, classes: Sequence[str] = ()) -> Images:
        """Images in memory, uint8 ``(N, 3, H, W)``, identified by their content."""
        return cls(pixels, content_digest(pixels, labels), labels, tuple(classes))

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, ids: Ids) -> Images:
        """The images ``ids``, in that order; their pixels are not copied."""
        labels = None if self.labels is None else self.labels[ids]
        origin = self.whole().digest
        named = digest([origin, hashlib.sha256(self.place(ids).tobytes()).hexdigest(), labels is not None])
        return Images(self.picked(ids), named, labels, self.classes, origin)

    def picked(self, ids: Ids) -> Picked:
        """The pixels of ``ids``, read on access."""
        return Picked(self.pixels.array if isinstance(self.pixels, Picked) else self.pixels, self.place(ids))

    def whole(self) -> Images:
        """The set that this one is a subset of, without labels; this set itself if it is not a subset."""
        if isinstance(self.pixels, Picked) and self.origin is not None:
            return Images(self.pixels.array, self.origin)
        return self

    def place(self, ids: Ids) -> Ids:
        """The ids that ``ids`` have in `whole`: results per image are stored for that set and shared by its subsets."""
        return self.pixels.ids[ids] if isinstance(self.pixels, Picked) else np.asarray(ids, dtype=np.int64)

    def unlabelled(self) -> Images:
        """The same images as a query set."""
        return replace(self, labels=None, classes=())

    def split(self, share: float, seed: int, *, stratified: bool = False) -> tuple[Images, Images]:
        """A random split in two; ``share`` of the images go to the second part.

        A ``stratified`` split gives the first part one image of every class before a second of any.
        """
        held = round(len(self) * share)
        if not 0 < held < len(self):
            raise DataError(f"data.test_share={share} of {len(self)} images leaves an empty split.")
        if stratified:
            first = self.ordered(seed)[: len(self) - held]
            return self.subset(np.sort(first)), self.subset(np.setdiff1d(np.arange(len(self)), first))
        order = np.random.default_rng(seed).permutation(len(self))
        return self.subset(order[held:]), self.subset(order[:held])

    def split_each(self, each: int, seed: int) -> tuple[Images, Images]:
        """A random split in two; ``each`` images of every class go to the second part.

        Raises:
            DataError: a class has no more images than that, which leaves none for the first part.
        """
        labels = self.labels if self.labels is not None else np.zeros(0, np.int64)
        counts = np.bincount(labels, minlength=len(self.classes))
        if each < 1 or not len(counts) or counts.min() <= each:
            least = f"; '{self.classes[int(counts.argmin())]}' has {counts.min()}" if len(counts) else ""
            raise DataError(f"data.test_each={each} must be at least 1 and leave images of every class{least}.")
        order = np.random.default_rng(seed).permutation(len(self))
        order = order[np.argsort(labels[order], kind="stable")]  # class by class, each in random order
        place = np.arange(len(self)) - (np.cumsum(counts) - counts)[labels[order]]
        held = order[place < each]
        return self.subset(np.sort(order[place >= each])), self.subset(np.sort(held))

    def without(self, names: Sequence[str]) -> Images:
        """The images of all classes but the named ones; the remaining labels are renumbered.

        Raises:
            DataError: a named class does not exist, or no class is left.
        """
        if unknown := sorted(set(names) - set(self.classes)):
            near = ", ".join(list(self.classes)[:5])
            raise DataError(f"data.without names no class of the data set: {', '.join(unknown)}. It has {near}, ...")
        left = [name for name in self.classes if name not in set(names)]
        if not left or self.labels is None:
            raise DataError("data.without leaves no class.")
        place = np.array([left.index(name) if name in left else -1 for name in self.classes], dtype=np.int64)
        kept = self.subset(np.flatnonzero(place[self.labels] >= 0))
        assert kept.labels is not None
        return replace(kept, digest=digest([kept.digest, left]), labels=place[kept.labels], classes=tuple(left))

    def ordered(self, seed: int) -> Ids:
        """All ids in a random order of which every prefix is stratified by label.

        Raises:
            DataError: there are no labels.
        """
        if self.labels is None:
            raise DataError("Images without labels cannot be stratified by label.")
        return order_stratified(self.labels, seed)

    def some(self, count: int | None, seed: int) -> Images:
        """``count`` of the images chosen at random, in their order; all of them for None."""
        return self.taken(count, seed)[0]

    def taken(self, count: int | None, seed: int, *, stratified: bool = False) -> tuple[Images, Images | None]:
        """``count`` of the images chosen at random, in their order, and the rest; for None all of them, and no rest."""
        if count is None or count == len(self):
            return self, None
        some = choose_ids(len(self), count, seed)
        if stratified:
            some = np.sort(self.ordered(seed)[:count])
        return self.subset(some), self.subset(np.setdiff1d(np.arange(len(self)), some))

    def image_digests(self, ids: Ids) -> list[bytes]:
        """The 16-byte digest of each image's content: equal images have equal digests, whatever their id."""
        return [hashlib.blake2b(self.pixels[i].tobytes(), digest_size=16).digest() for i in ids]


@dataclass(frozen=True)
class Task:
    """What the victim was made for: a training and a test split over the same classes.

    Attributes:
        train: what the victim is trained on.
        test: what agreement is measured on.
        rest: training images that a subset left out, if any: the victim's own distribution, but never seen by it.
    """

    train: Images
    test: Images
    rest: Images | None = None

    def __post_init__(self) -> None:
        if list(self.train.classes) != list(self.test.classes):
            odd = sorted(set(self.train.classes) ^ set(self.test.classes))
            raise DataError(
                f"The training split has {len(self.train.classes)} classes and the test split "
                f"{len(self.test.classes)}; in one of them only: {', '.join(odd[:10]) or 'the order differs'}."
            )

    def reduced(self, train_count: int | None, test_count: int | None, seed: int, *, stratified: bool = False) -> Task:
        """The task with a random subset of each split, None for all of it; unused training images become `rest`."""
        train, rest = self.train.taken(train_count, seed, stratified=stratified)
        return Task(train, self.test.taken(test_count, seed, stratified=stratified)[0], rest)

    @property
    def num_classes(self) -> int:
        """How many classes the task has."""
        return len(self.train.classes)


def choose_ids(total: int, count: int | None, seed: int) -> Ids:
    """``count`` of ``total`` ids chosen at random, ascending; None for all.

    With the same seed, a smaller choice is a subset of a larger one.
    """
    if count is not None and not 0 < count <= total:
        raise DataError(f"{count} images are asked for of {total}.")
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def join(parts: Sequence[Images], pixels: Pixels) -> Images:
    """Join several sets into one without labels; their ``pixels`` lie one after the other in one array."""
    return Images(pixels, digest([part.digest for part in parts]), parts=tuple(parts))


def content_digest(pixels: Pixels, labels: Labels | None = None) -> str:
    """SHA-256 over shape, pixels and labels, as hex."""
    total = hashlib.sha256(repr(pixels.shape).encode())
    for start in range(0, len(pixels), 4096):
        total.update(np.ascontiguousarray(pixels[start : start + 4096]).reshape(-1).data)
    if labels is not None:
        total.update(labels.tobytes())
    return total.hexdigest()


def save(folder: Path, pixels: Pixels, labels: Labels | None = None, classes: Sequence[str] = ()) -> None:
    """Write a set of images into an artifact's folder; pixels already in a file there are left where they are."""
    file = folder / PIXELS
    inside = isinstance(pixels, np.memmap) and file.exists() and file.samefile(str(pixels.filename))
    if not inside:
        np.save(file, pixels)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    write_json(folder / "images.json", {"digest": content_digest(pixels, labels), "classes": list(classes)})


def load(folder: Path) -> Images:
    """Open a set of images, pixels memory-mapped."""
    meta = read_json(folder / "images.json")
    labels = folder / "labels.npy"
    return Images(
        pixels=np.load(folder / PIXELS, mmap_mode="r"),
        digest=meta["digest"],
        labels=np.load(labels) if labels.exists() else None,
        classes=tuple(meta["classes"]),
    )
