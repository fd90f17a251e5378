"""Folders of image files, decoded once into a memory-mapped uint8 array."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fmsteal.data.images import Images, Labels, Pixels, Task, content_digest, load, save
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
    split_seed: int = 0,
    broken: Broken = "error",
) -> Task:
    """A classification task from ``root/<class>/<image>``.

    Args:
        store: where the decoded images are kept.
        root: the folder; if it has the sub-folders ``train`` and ``test``, they are the splits.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        test_root: a separate folder for the test split, with the same classes.
        test_share: share of images set aside for testing where neither of the above gives a split.
        split_seed: of that split.
        broken: what to do with a file that cannot be decoded: ``error``, or ``skip`` (counted in a warning).
    """
    folder = Path(root).expanduser()
    if test_root is None and (folder / "train").is_dir() and (folder / "test").is_dir():
        folder, test_root = folder / "train", str(folder / "test")
    images = decoded(store, folder, size, broken, labelled=True)
    if test_root is not None:
        return Task(images, decoded(store, Path(test_root).expanduser(), size, broken, labelled=True))
    order = np.random.default_rng(split_seed).permutation(len(images))
    held = round(len(images) * test_share)
    if not 0 < held < len(images):
        raise DataError(f"data.test_share={test_share} of {len(images)} images leaves an empty split.")
    return Task(_subset(images, order[held:]), _subset(images, order[:held]))


def pool(
    store: Store, root: str, *, size: int = 32, count: int | None = None, seed: int = 0, broken: Broken = "error"
) -> Images:
    """A query set: all images below ``root``, at any depth, or a random ``count`` of them."""
    images = decoded(store, Path(root).expanduser(), size, broken, labelled=False)
    if count is None or count == len(images):
        return images
    if count > len(images):
        raise DataError(f"query.count={count}, but {root} holds {len(images)} images.")
    return _subset(images, np.sort(np.random.default_rng(seed).permutation(len(images))[:count]))


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
    spec = {"files": digest(inventory), "size": size, "resampling": "bilinear", "classes": classes, "broken": broken}

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
    """Decode in parallel; returns the pixels and which files they come from."""
    pixels = np.empty((len(files), 3, size, size), np.uint8)

    def read(place: int) -> str | None:
        try:
            pixels[place] = _square(files[place], size)
        except Exception as error:  # PIL raises many kinds for damaged files
            return f"{files[place]} ({type(error).__name__}: {error})"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        faults = list(workers.map(read, range(len(files))))
    named = [f for f in faults if f is not None]
    if named and broken == "error":
        raise DataError(
            f"{len(named)} image file(s) cannot be decoded, first {named[0]}. Remove them, or pass over them: "
            "data.broken=skip (query.broken=skip)."
        )
    if len(named) == len(files):
        raise DataError(f"None of {len(files)} image files can be decoded, first {named[0]}.")
    if named:
        log.warning("%d image file(s) that cannot be decoded were passed over, first %s", len(named), named[0])
    kept = [i for i, fault in enumerate(faults) if fault is None]
    return (pixels[kept] if named else pixels), kept


def _square(file: Path, size: int) -> npt.NDArray[np.uint8]:
    """One image as RGB ``(3, size, size)``: alpha is dropped, as torchvision's loader does; 16-bit grey is scaled."""
    with Image.open(file) as opened:
        opened.draft("RGB", (size, size))  # JPEGs are decoded at a reduced scale where that suffices
        image: Image.Image = opened
        if opened.mode.startswith("I"):
            image = Image.fromarray((np.asarray(opened).clip(0, 65535) / 257).round().astype(np.uint8))
        rgb = image.convert("RGBA").convert("RGB") if image.mode in ("P", "LA") else image.convert("RGB")
    scale = size / min(rgb.size)
    target = (max(size, round(rgb.width * scale)), max(size, round(rgb.height * scale)))
    rgb = rgb.resize(target, Image.Resampling.BILINEAR)
    left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
    return np.asarray(rgb.crop((left, top, left + size, top + size)), dtype=np.uint8).transpose(2, 0, 1)


def _subset(images: Images, ids: npt.NDArray[np.int64]) -> Images:
    pixels = np.ascontiguousarray(images.pixels[ids])
    labels = None if images.labels is None else images.labels[ids]
    return Images(pixels, content_digest(pixels, labels), labels, images.classes)
