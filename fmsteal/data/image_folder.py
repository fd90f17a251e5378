"""Folders of image files, decoded once into a memory-mapped uint8 array."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, digest, write_json
from fmsteal.data.available import look_with
from fmsteal.data.broken import Broken, account_for
from fmsteal.data.decode import decode
from fmsteal.data.files import FoundFiles, find_images, spell
from fmsteal.data.images import Images, Task, choose_ids, load, save
from fmsteal.data.layout import FolderLayout, classes_of, lay_out, require_classes
from fmsteal.data.opening import MAX_PIXELS, lift_pillow_limit, open_image
from fmsteal.identity.rules import declare

log = logging.getLogger(__name__)
NAMES = "names.json"  # names of the files by image id, relative to the folder
DECODER = 2  # increased when the same files are decoded differently


def look_for_task(root: str, test_root: str | None = None) -> None:
    """Check that a folder is a task, by its folders alone.

    Raises:
        DataError: the folder does not exist, or is not a task.
    """
    locate_splits(root, test_root)


def look_for_pool(root: str) -> None:
    """Check that a folder holds images.

    Raises:
        DataError: the folder does not exist, or holds no images.
    """
    find_images(Path(root).expanduser())


@look_with(look_for_task)
@declare(version=2)
def task(
    store: Store,
    root: str,
    *,
    size: int = 32,
    test_root: str | None = None,
    test_share: float = 0.2,
    train_count: int | None = None,
    test_count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Task:
    """A classification task from ``root/<class>/<image>``; `lay_out` finds splits and classes.

    Splits and subsets that are made here are stratified: every class has its share in them
    (`balanced.order_stratified`). An image is turned as its EXIF orientation says.

    Args:
        store: where the decoded images are kept.
        root: the folder; if it has the sub-folders ``train`` and ``test`` (or ``val``), they are the splits.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        test_root: a separate folder for the test split, with the same classes.
        test_share: share of images set aside for testing if neither of the above gives a split.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        seed: seed of the split and the subsets.
        broken: what to do with a file that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of a file; a larger one is not decoded.

    Raises:
        DataError: the folder is not a task, has a single class, or an image cannot be read.
    """
    found = locate_splits(root, test_root)
    images = decode_task(store, found.train, size, broken, max_pixels)
    if found.test is None:
        train, test = images.split(test_share, seed, stratified=True)
    else:
        train, test = images, decode_task(store, found.test, size, broken, max_pixels)
        beside = f"; not looked at: {', '.join(found.left[:10])}" if found.left else ""
        _tell(f"{found.train} is the training split, {found.test} the test split{beside}")
    return Task(train, test).reduced(train_count, test_count, seed, stratified=True)


def locate_splits(root: str, test_root: str | None) -> FolderLayout:
    """Find a task's class folders.

    Raises:
        DataError: there is no such folder, or it is not a task.
    """
    found = lay_out(Path(root).expanduser())
    if test_root is not None:
        other = lay_out(Path(test_root).expanduser())
        found = FolderLayout(found.train, other.test or other.train)
    for folder in (found.train, found.test):
        if folder is not None:
            require_classes(folder, classes_of(folder))
    return found


@look_with(look_for_pool)
def pool(
    store: Store,
    root: str,
    *,
    size: int = 32,
    count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """A query set: all images below ``root``, at any depth, or ``count`` chosen at random; no others are decoded."""
    folder = Path(root).expanduser()
    return load(decode_folder(store, folder, size, broken, max_pixels, labelled=False, count=count, seed=seed))


def decode_task(store: Store, root: Path, size: int, broken: Broken, max_pixels: int = MAX_PIXELS) -> Images:
    """The images of a folder of classes, decoded unless they already are."""
    return load(decode_folder(store, root, size, broken, max_pixels, labelled=True))


def decode_folder(
    store: Store,
    root: Path,
    size: int,
    broken: Broken,
    max_pixels: int = MAX_PIXELS,
    *,
    labelled: bool,
    count: int | None = None,
    seed: int = 0,
) -> Path:
    """The images of a folder (``count`` chosen at random) as an artifact, keyed by its files, size and resampling."""
    found = find_images(root)
    names = [found.names[at] for at in choose_ids(len(found.names), count, seed)]
    classes = classes_of(root) if labelled else []
    _tell_found(root, found, classes)
    _require_images(root, set(classes) - {name.partition("/")[0] for name in names})
    inventory = [(name, *_stamp(os.path.join(root, name))) for name in names]  # noqa: PTH118
    spec = {
        "root": str(root.resolve()),
        "files": digest(inventory),
        "size": size,
        "resampling": "bilinear",
        "classes": classes,
        "broken": broken,
        "names": NAMES,
        "decoder": DECODER,
        "max_pixels": max_pixels,
    }
    place = {name: label for label, name in enumerate(classes)}

    def read(at: int) -> tuple[Image.Image, int]:
        return open_image(root / names[at], size, max_pixels), place[names[at].split("/")[0]] if labelled else -1

    def build(out: Path, scratch: Path) -> None:
        with lift_pillow_limit():
            found = decode(
                len(names), read, size, scratch, lambda done, of: store.tell(f"decode {root.name}", done, of)
            )
        account_for(found.faults, [root / name for name in names], broken)
        kept = found.sound
        labels = found.labels[kept] if labelled else None
        if labels is not None:
            _require_images(root, set(classes) - {classes[label] for label in np.unique(labels)})
        save(out, found.into(out), labels, classes)
        write_json(out / NAMES, [names[at] for at in kept])

    return store.get("images", root.name or "root", spec, build)


def _tell_found(root: Path, found: FoundFiles, classes: Sequence[str]) -> None:
    """Log what a folder holds, and warn about pictures that cannot be read."""
    more = ", ..." if len(classes) > 5 else ""
    of = f" of {len(classes)} classes ({', '.join(classes[:5])}{more})" if classes else ""
    skipped = f"; skipped: {spell(found.skipped)}" if found.skipped else ""
    _tell(f"{root}: {len(found.names)} images{of}{skipped}")
    if found.unread:
        _tell(f"{root}: {spell(found.unread)} are pictures of a kind that is not read: convert them", logging.WARNING)


@functools.lru_cache(maxsize=256)
def _tell(line: str, level: int = logging.INFO) -> None:
    """Log a line once per process: a job looks at its images again when it measures."""
    log.log(level, line)


def _require_images(root: Path, empty: set[str]) -> None:
    if empty:
        raise DataError(f"These class folders of {root} hold no readable image: {', '.join(sorted(empty)[:10])}.")


def _stamp(file: str) -> tuple[int, int]:
    """Size and time of a file; -1 for a broken link, which fails when it is read."""
    try:
        status = os.stat(file)  # noqa: PTH116
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
