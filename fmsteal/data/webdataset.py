"""Shards of the WebDataset format: tar archives of images with their labels beside them, read without unpacking.

The members of a sample lie one after the other and share their name up to its first dot (``000123.jpg``,
``000123.cls``, ``000123.json``), as in the package ``webdataset``, which is not needed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from fmsteal.base.errors import DataError
from fmsteal.base.patterns import find_files, is_pattern
from fmsteal.base.store import Store
from fmsteal.data.available import look_with
from fmsteal.data.broken import Broken
from fmsteal.data.files import is_image, list_folder
from fmsteal.data.images import Images, Task, choose_ids
from fmsteal.data.label_texts import name_classes
from fmsteal.data.numbered import Decoding, PartSizes, make_pool, make_task
from fmsteal.data.opening import MAX_PIXELS
from fmsteal.data.tar_index import TarEntries, TarIndex, index_archives, require_sound
from fmsteal.data.tar_members import Member, list_members

_SAMPLE = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")
_LARGEST_LABEL = 2**20  # bytes


def look_for_pool(
    store: Store, root: str, image: str | None = None, count: int | None = None, broken: Broken = "error"
) -> None:
    """Check that shards exist and are sound, by their headers alone, and hold ``count`` images.

    Raises:
        DataError: they are not.
    """
    choose_ids(len(index_shards(store, root, image, None, "", broken)), count, 0)


def look_for_task(
    store: Store,
    root: str,
    test_root: str | None = None,
    image: str | None = None,
    label: str = "cls",
    field: str = "label",
    broken: Broken = "error",
) -> None:
    """Check that the shards of both splits exist and are sound, and that every image has a label.

    Raises:
        DataError: they are not.
    """
    for place in (root, test_root):
        if place is not None:
            index_shards(store, place, image, label, field, broken)


@look_with(look_for_pool)
def pool(
    store: Store,
    root: str,
    *,
    image: str | None = None,
    size: int = 32,
    count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Images:
    """A query set: all images of some shards, or ``count`` chosen at random; no others are read.

    Args:
        store: where the index of the shards and the decoded images are kept.
        root: a folder of shards, a pattern (``/data/shards-{000..099}.tar``, ``/data/*.tar``), or one shard.
        image: ending of the images' members (``jpg``, ``left.png``); None for the only one that is of an image.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        count: number of images, chosen at random; None for all.
        seed: seed of the choice.
        broken: what to do with a cut shard, a sample without an image, or an image that cannot be decoded: ``error``,
            or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: there are no shards, or something in them is wrong; the message names shard and member.
    """
    found = index_shards(store, root, image, None, "", broken)
    return make_pool(store, found, Decoding(size, broken, max_pixels), count, seed)


@look_with(look_for_task)
def task(
    store: Store,
    root: str,
    *,
    test_root: str | None = None,
    image: str | None = None,
    label: str = "cls",
    field: str = "label",
    classes: Sequence[str] | str | None = None,
    size: int = 32,
    test_share: float = 0.2,
    train_count: int | None = None,
    test_count: int | None = None,
    rest_count: int | None = None,
    seed: int = 0,
    broken: Broken = "error",
    max_pixels: int = MAX_PIXELS,
) -> Task:
    """A classification task from shards; splits and subsets that are made here are stratified by class.

    Args:
        store: where the index of the shards and the decoded images are kept.
        root: the shards, as for `pool`.
        test_root: the same for the test images; None sets aside ``test_share`` of the others by ``seed``.
        image: ending of the images' members; None for the only one that is of an image.
        label: ending of the members that hold labels: a whole number or a class's name as text, or ``json``.
        field: the field of a JSON member that is the label; ``a.b`` for a field in a field.
        classes: names for labels that are numbers, or a file with a line for each; None for the numbers themselves.
        size: pixels of the square images: the shorter side is resized to it, the middle cropped.
        test_share: see ``test_root``.
        train_count: number of training images, chosen at random; None for all.
        test_count: the same for the test images.
        rest_count: number of training images that ``train_count`` leaves out and that are decoded all the same, for
            ``query=same``; None for all of them.
        seed: seed of the split and the subsets.
        broken: what to do with a cut shard, a sample without an image or a label, or an image that cannot be decoded:
            ``error``, or ``skip`` (counted in a warning).
        max_pixels: maximum number of pixels of an image; a larger one is not decoded.

    Raises:
        DataError: there are no shards, or something in them is wrong; the message names shard and member.
    """
    first = index_shards(store, root, image, label, field, broken)
    second = None if test_root is None else index_shards(store, test_root, image, label, field, broken)
    for found in (first, second):
        if found is not None:
            found.classes = name_classes(found.classes, classes)
    parts = PartSizes(train_count, test_count, rest_count, test_share, seed)
    return make_task(store, first, second, Decoding(size, broken, max_pixels), parts)


def index_shards(store: Store, root: str, image: str | None, label: str | None, field: str, broken: Broken) -> TarIndex:
    """The images of some shards, found once by the shards' headers; with ``label``, their labels too.

    Raises:
        DataError: there are no shards, or something in them is wrong.
    """
    how = {"format": "webdataset", "image": image, "label": label, "field": field if label == "json" else None}

    def read(entries: TarEntries, number: int, file: Path) -> None:
        with file.open("rb") as stream:
            try:
                for key, members in group_members(list_members(stream)):
                    _add_sample(entries, number, f"{file}: {key}", members, how, stream)
            except DataError as error:
                entries.blame(f"{file} ({error})")

    found = index_archives(store, find_shards(root), how, read)
    require_sound(found, broken)
    return found


def find_shards(root: str) -> list[Path]:
    """The shards of a folder, by name, of a pattern, or the one shard that ``root`` is.

    Raises:
        DataError: there are none, or one of a pattern does not exist.
    """
    place = Path(root).expanduser()
    if is_pattern(root):
        found = find_files(root)
        if not found:
            raise DataError(f"No shard is called {root}: data.root=/path (query.root=/path).")
        if missing := [file for file in found if not file.is_file()]:
            raise DataError(f"{len(missing)} of the {len(found)} shards of {root} do not exist, first {missing[0]}.")
        return found
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(
            f"There is no {root}. Give a folder of shards, or a pattern: query.root=/path/shards-{{000..099}}.tar "
            "(data.root)."
        )
    items = list(list_folder(place))
    found = [Path(item.path) for item in items if item.name.lower().endswith(".tar") and item.is_file()]
    if not found:
        below = [item.name for item in items if item.is_dir()]
        packed = [item.name for item in items if re.search(r"\.(tgz|tar\.\w+)$", item.name.lower())]
        hint = f" {packed[0]} is compressed: decompress it." if packed else ""
        hint = hint or (f" It holds the folders {', '.join(below[:5])}: give one of these." if below else "")
        raise DataError(f"The folder {place} holds no shards (.tar).{hint}")
    return found


def group_members(members: Iterator[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples of a shard: their key, and their members by ending in lower case."""
    key, found = "", dict[str, Member]()
    for member in members:
        match = _SAMPLE.fullmatch(member.name)
        if match is None or _META.match(member.name):
            continue
        if match[1] != key and found:
            yield key, found
            found = {}
        key = match[1]
        if match[2].lower() in found:
            raise DataError(f"it has two members {member.name}")
        found[match[2].lower()] = member
    if found:
        yield key, found


def _add_sample(
    entries: TarEntries,
    number: int,
    name: str,
    members: Mapping[str, Member],
    how: Mapping[str, str | None],
    file: BinaryIO,
) -> None:
    try:
        image = members[_find_image(members, how["image"])]
        label = None if how["label"] is None else _read_label(members, how["label"], how["field"], file)
    except DataError as error:
        entries.blame(f"{name} ({error})")
    else:
        entries.add(number, image, label)


def _find_image(members: Mapping[str, Member], wanted: str | None) -> str:
    """The ending of a sample's image."""
    there = ", ".join(members)
    if wanted is not None:
        if wanted.lower().lstrip(".") not in members:
            raise DataError(f"it has no member .{wanted.lstrip('.')}, but {there}")
        return wanted.lower().lstrip(".")
    found = [ending for ending in members if is_image(f"x.{ending}")]
    if not found:
        raise DataError(f"it has no image, but {there}")
    if len(found) > 1:
        raise DataError(f"it has {len(found)} images: choose one, query.image={found[0]} (data.image)")
    return found[0]


def _read_label(members: Mapping[str, Member], ending: str, field: str | None, file: BinaryIO) -> str:
    """The label of a sample, as text."""
    member = members.get(ending.lower().lstrip("."))
    if member is None:
        there = ", ".join(members)
        raise DataError(f"it has no label .{ending}, but {there}: data.label names the ending of labels")
    raw = os.pread(file.fileno(), min(member.size, _LARGEST_LABEL), member.start)
    try:
        value = raw.decode() if field is None else json.loads(raw)
    except ValueError as error:
        raise DataError(f"its label .{ending} cannot be read: {error}") from error
    for word in [] if field is None else field.split("."):
        if not isinstance(value, dict) or word not in value:
            raise DataError(f"its label .{ending} has no field {field}: data.field names it")
        value = value[word]
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise DataError(f"its label {value!r} is neither a whole number nor a name")
    text = str(value).strip()
    if re.fullmatch(r"-\d+", text):
        raise DataError(f"its label is {text}")
    return text
