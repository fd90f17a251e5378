"""ImageNet-1k (ILSVRC 2012) from its original archives, none of them unpacked.

The training archive is a tar of a tar for each class. Both levels are uncompressed, so an image is a piece of the file:
the headers are read once, then images by their offset. Classes are WordNet ids, as in the archive, in sorted order.
"""

from __future__ import annotations

import tarfile
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.data.available import look_with
from fmsteal.data.broken import Broken
from fmsteal.data.images import Images, Task, choose_ids
from fmsteal.data.numbered import Decoding, PartSizes, make_pool, make_task
from fmsteal.data.opening import MAX_PIXELS
from fmsteal.data.tar_index import TarEntries, TarIndex, index_archives, require_sound
from fmsteal.data.tar_members import list_members
from fmsteal.identity.rules import declare

Split = Literal["train", "val"]
ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH, _META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"


def look_for_pool(
    store: Store, root: str, split: Split = "train", count: int | None = None, broken: Broken = "error"
) -> None:
    """Check that a split's archive exists and is sound, by its headers alone, and holds ``count`` images.

    Raises:
        DataError: it is not.
    """
    choose_ids(len(index_split(store, root, split, broken, labelled=False)), count, 0)


def look_for_task(store: Store, root: str, broken: Broken = "error") -> None:
    """Check that the archives of both splits and the development kit exist and are sound, by their headers alone.

    Raises:
        DataError: one is not.
    """
    for split in ("val", "train"):  # the smaller one first
        index_split(store, root, split, broken, labelled=True)


@look_with(look_for_pool)
@declare(machine=frozenset({"root"}))
def pool(
    store: Store,
    root: str,
    *,
    split: Split = "train",
    size: int = 224,
    count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """A query set: the images of one split without labels, or ``count`` chosen at random; no others are read.

    Args:
        store: where the index of the archive and the decoded images are kept.
        root: the folder with ``ILSVRC2012_img_train.tar`` (``ILSVRC2012_img_val.tar`` for ``val``).
        split: ``train``, 1,281,167 images, or ``val``, 50,000.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        count: number of images, chosen at random; None for all.
        seed: seed of the choice.
        broken: what to do with a cut archive or an image that cannot be decoded: ``error``, or ``skip`` (counted in a
            warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: the archive is missing, or something in it is wrong; the message names the member.
    """
    found = index_split(store, root, split, broken, labelled=False)
    return make_pool(store, found, Decoding(size, broken, max_pixels), count, seed)


@look_with(look_for_task)
@declare(machine=frozenset({"root"}))
def task(
    store: Store,
    root: str,
    *,
    size: int = 224,
    train_count: int | None = None,
    test_count: int | None = None,
    rest_count: int | None = 0,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Task:
    """A classification task: the training images, tested on the validation images.

    Args:
        store: where the index of the archives and the decoded images are kept.
        root: the folder with the two archives and ``ILSVRC2012_devkit_t12.tar.gz``, which has the labels of the
            validation images.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        train_count: number of training images, chosen at random, stratified by class; None for all.
        test_count: the same for the test images.
        rest_count: number of training images that ``train_count`` leaves out and that are decoded all the same, for
            ``query=same``; none by default, None for all of them.
        seed: seed of the subsets.
        broken: what to do with a cut archive or an image that cannot be decoded: ``error``, or ``skip`` (counted in a
            warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: an archive is missing, or something in it is wrong; the message names the member.
    """
    train, test = (index_split(store, root, split, broken, labelled=True) for split in ("train", "val"))
    parts = PartSizes(train_count, test_count, rest_count, 0.0, seed)
    return make_task(store, train, test, Decoding(size, broken, max_pixels), parts)


def index_split(store: Store, root: str, split: Split, broken: Broken, *, labelled: bool) -> TarIndex:
    """The images of a split, found once by the archive's headers; labelled by WordNet ids.

    Raises:
        DataError: a file is missing, or something in the archive is wrong.
    """
    folder = Path(root).expanduser()
    archive = _require(folder, ARCHIVES[split])
    if split == "train":
        found = index_archives(store, [archive], {"format": "imagenet", "split": split}, _read_train)
    else:
        labels = read_truth(_require(folder, DEVKIT)) if labelled else None
        read = partial(_read_val, labels=labels)
        found = index_archives(store, [archive], {"format": "imagenet", "split": split, "labelled": labelled}, read)
    require_sound(found, broken)
    return found


def read_truth(devkit: Path) -> list[str]:
    """The WordNet id of every validation image, in the images' order, from the development kit.

    Raises:
        DataError: it is not the development kit.
    """
    import scipy.io  # only where it is needed

    try:
        with tarfile.open(devkit) as tar:
            folder = devkit.name.removesuffix(".tar.gz")
            truth, meta = (tar.extractfile(f"{folder}/{name}").read() for name in (_TRUTH, _META))  # type: ignore[union-attr]
        synsets = scipy.io.loadmat(BytesIO(meta), squeeze_me=True)["synsets"]
        ids = {int(synset[0]): str(synset[1]) for synset in synsets}
        return [ids[int(line)] for line in truth.split()]
    except Exception as error:  # whatever scipy raises for a damaged file
        raise DataError(f"{devkit} is not ImageNet's development kit ({type(error).__name__}: {error}).") from error


def _read_train(entries: TarEntries, number: int, file: Path) -> None:
    with file.open("rb") as outer, file.open("rb") as inner:
        try:
            for each in list_members(outer):
                if not each.name.endswith(".tar"):
                    entries.blame(f"{file}: {each.name} (it is no archive of a class)")
                    continue
                name = Path(each.name).stem
                try:
                    for member in list_members(inner, each.start, each.end):
                        entries.add(number, member, name)
                except DataError as error:
                    entries.blame(f"{file}: {each.name} ({error})")
        except DataError as error:
            entries.blame(f"{file} ({error})")


def _read_val(entries: TarEntries, number: int, file: Path, labels: list[str] | None) -> None:
    with file.open("rb") as stream:
        try:
            for member in list_members(stream):
                entries.add(number, member, None if labels is None else _find_label(member.name, labels))
        except DataError as error:
            entries.blame(f"{file} ({error})")


def _find_label(name: str, labels: list[str]) -> str:
    """The label of a validation image, whose name ends with its number, counted from 1."""
    digits = Path(name).stem.rpartition("_")[2]
    number = int(digits) if digits.isdigit() else 0
    if not 0 < number <= len(labels):
        raise DataError(f"{name} has no label among the {len(labels)} of the development kit")
    return labels[number - 1]


def _require(folder: Path, name: str) -> Path:
    file = folder / name
    if file.is_file():
        return file
    unpacked = next((place for place in (folder / "train", folder) if (place / "n01440764").is_dir()), None)
    way = (
        f" To use the unpacked images: query=image_folder query.root={unpacked} (data=image_folder)."
        if unpacked
        else ""
    )
    raise DataError(
        f"There is no {file}. ImageNet's archives are downloaded, after registering, from "
        f"https://image-net.org/download-images.php; leave them packed, and give their folder: query.root=/path "
        f"(data.root).{way}"
    )
