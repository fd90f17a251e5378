"""Folders of image files, decoded once into a memory-mapped uint8 array."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fmsteal.data.decode import decode, first_fault
from fmsteal.data.images import Images, Labels, Pixels, Task, load, save
from fmsteal.errors import DataError
from fmsteal.store import Store, digest

log = logging.getLogger(__name__)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"}
Broken = Literal["error", "skip"]


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
) -> Task:
    """A classification task from ``root/<class>/<image>``.

    Args:
        store: where the decoded images are kept.
        root: the folder; if it has the sub-folders ``train`` and ``test``, they are the splits.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        test_root: a separate folder for the test split, with the same classes.
        test_share: share of images set aside for testing where neither of the above gives a split.
        train_count: a random subset of the training images; None for all.
        test_count: the same for the test images.
        seed: of split and subsets.
        broken: what to do with a file that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
    """
    folder = Path(root).expanduser()
    if test_root is None and (folder / "train").is_dir() and (folder / "test").is_dir():
        folder, test_root = folder / "train", str(folder / "test")
    images = decoded(store, folder, size, broken, labelled=True)
    if test_root is None:
        train, test = images.split(test_share, seed)
    else:
        train, test = images, decoded(store, Path(test_root).expanduser(), size, broken, labelled=True)
    return Task(train.some(train_count, seed), test.some(test_count, seed))


def pool(
    store: Store, root: str, *, size: int = 32, count: int | None = None, seed: int = 0, broken: Broken = "error"
) -> Images:
    """A query set: all images below ``root``, at any depth, or a random ``count`` of them."""
    return decoded(store, Path(root).expanduser(), size, broken, labelled=False).some(count, seed)


def decoded(store: Store, root: Path, size: int, broken: Broken, *, labelled: bool) -> Images:
    """The images of a folder as an artifact, keyed by its files, the size and the resampling."""
    if not root.is_dir():
        raise DataError(f"There is no image folder {root}. Give an existing one: data.root=/path or query.root=/path.")
    found = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    files = sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if not files:
        raise DataError(f"The folder {root} holds no images ({', '.join(sorted(SUFFIXES))}).")
    classes = _classes(root) if labelled else []
    inventory = [(f.relative_to(root).as_posix(), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    spec = {
        "root": str(root.resolve()),
        "files": digest(inventory),
        "size": size,
        "resampling": "bilinear",
        "classes": classes,
        "broken": broken,
    }

    def build(out: Path, scratch: Path) -> None:
        pixels, kept = _decode(files, size, broken)
        labels: Labels | None = None
        if labelled:
            place = {name: i for i, name in enumerate(classes)}
            labels = np.array([place[files[i].relative_to(root).parts[0]] for i in kept], dtype=np.int64)
            empty = sorted(set(classes) - {classes[i] for i in np.unique(labels)})
            if empty:
                raise DataError(f"These class folders of {root} hold no readable image: {', '.join(empty[:10])}.")
        save(out, pixels, labels, classes)

    return load(store.get("images", root.name or "root", spec, build))


def _classes(root: Path) -> list[str]:
    stray = next((p for p in sorted(root.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()), None)
    if stray is not None:
        raise DataError(f"{stray} lies outside any class folder; a task is laid out as {root}/<class>/<image>.")
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _decode(files: Sequence[Path], size: int, broken: Broken) -> tuple[Pixels, list[int]]:
    """Decode files in parallel; returns the pixels and which files they come from."""

    def read(place: int) -> Image.Image:
        image = Image.open(files[place])
        image.draft("RGB", (size, size))  # JPEGs are decoded at a reduced scale where that suffices
        return image

    pixels, faults = decode(len(files), read, size)
    if faults and broken == "error":
        raise DataError(
            f"{len(faults)} image file(s) cannot be decoded, first {first_fault(faults, files)}. Remove them, or pass "
            "over them: data.broken=skip (query.broken=skip)."
        )
    if len(faults) == len(files):
        raise DataError(f"None of {len(files)} image files can be decoded, first {first_fault(faults, files)}.")
    if faults:
        first = first_fault(faults, files)
        log.warning("%d image file(s) that cannot be decoded were passed over, first %s", len(faults), first)
    kept = [i for i in range(len(files)) if i not in faults]
    return (pixels[kept] if faults else pixels), kept
