"""Does the query set hold the victim's own images? They are compared by thumbnail, so stored sizes may differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.store import Store, read_json, write_json
from fmsteal.data.images import Images, Task

GRID = 8  # side of a grey thumbnail
ALIKE = 0.997  # correlation above which two thumbnails show the same image: copies lie above, digits of one class below
FLAT = 2.0  # standard deviation in grey levels up to which an image is too plain to compare
BLOCK = 256  # images at a time
Thumbnails = npt.NDArray[np.float32]


def count_overlap(store: Store, pool: Images, task: Task) -> dict[str, int]:
    """How many images of the task's training and test split are also in ``pool``.

    Two images count as the same if their grey thumbnails correlate by more than `ALIKE`. That finds nearly all copies
    stored at another size or compressed again, but none that are cropped differently. Nearly plain images are left out.
    """

    def build(out: Path, scratch: Path) -> None:
        asked = _rows(store, pool)
        splits = {"train": task.train, "test": task.test}
        write_json(out / "counts.json", {name: _found(_rows(store, own), asked) for name, own in splits.items()})

    spec = {"pool": pool.digest, "train": task.train.digest, "test": task.test.digest, "alike": ALIKE, **_SETTINGS}
    return read_json(store.get("overlap", f"{len(pool)}", spec, build) / "counts.json")


_SETTINGS = {"grid": GRID, "flat": FLAT}


def _found(own: Tensor, asked: Tensor) -> int:
    """How many rows of ``own`` are like any of ``asked``."""
    likest = (torch.stack([(rows @ part.T).amax(1) for part in asked.split(8192)]).amax(0) for rows in own.split(BLOCK))
    return sum(int((best > ALIKE).sum()) for best in likest)


def _rows(store: Store, images: Images) -> Tensor:
    """The thumbnails of a set; computed once for all subsets of a stored set."""
    stored = images.whole()

    def build(out: Path, scratch: Path) -> None:
        np.save(out / "thumbnails.npy", make_thumbnails(stored))

    place = store.get("thumbnails", f"{len(stored)}", {"images": stored.digest, **_SETTINGS}, build)
    return torch.from_numpy(np.load(place / "thumbnails.npy", mmap_mode="r")[images.place(np.arange(len(images)))])


def make_thumbnails(images: Images) -> Thumbnails:
    """Grey levels on a `GRID`, of zero mean and length 1, ``(N, GRID * GRID)``; all zero for nearly plain images."""
    parts = [np.zeros((0, GRID * GRID), np.float32)]
    for start in range(0, len(images), BLOCK):
        grey = torch.from_numpy(np.array(images.pixels[start : start + BLOCK])).float().mean(1, keepdim=True)
        small = F.interpolate(grey, size=(GRID, GRID), mode="bilinear", antialias=True, align_corners=False).flatten(1)
        small = small - small.mean(1, keepdim=True)
        shown = small.std(1, keepdim=True) > FLAT
        parts.append(torch.where(shown, F.normalize(small, dim=1), torch.zeros(())).numpy())
    return np.concatenate(parts)
