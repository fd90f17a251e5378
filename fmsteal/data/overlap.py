"""Does the query set hold the victim's own images? Compared by fingerprint, so at any two stored sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fmsteal.data.images import Images, Task
from fmsteal.store import Store

GRID = 16  # a fingerprint is which of two neighbours on a GRID x (GRID + 1) grey grid is brighter
FLAT = 2.0  # grey levels of standard deviation below which an image is too plain to be told from others
BLOCK = 2048
Fingerprints = npt.NDArray[np.uint8]


def overlap(store: Store, pool: Images, task: Task) -> dict[str, int]:
    """How many images of ``pool`` are also in the task's training and test split.

    A difference hash of 256 bits, all equal: the same picture stored at another size usually is found, though not
    always, so between sets of different sizes the figure is a lower bound. Nearly plain images are left out.
    """
    asked = set(_rows(store, pool))
    return {
        name: len(asked & set(_rows(store, images))) for name, images in (("train", task.train), ("test", task.test))
    }


def _rows(store: Store, images: Images) -> list[bytes]:
    """The fingerprints of a set's images that have one; computed once for all subsets of a stored set."""
    stored = images.whole()

    def build(out: Path, scratch: Path) -> None:
        np.save(out / "fingerprints.npy", fingerprints(stored))

    spec = {"images": stored.digest, "grid": GRID, "flat": FLAT}
    rows = np.load(store.get("fingerprints", f"{len(stored)}", spec, build) / "fingerprints.npy", mmap_mode="r")
    found = rows[images.place(np.arange(len(images)))]
    return [row.tobytes() for row in found[found.any(1)]]


def fingerprints(images: Images) -> Fingerprints:
    """Of every image ``GRID * GRID`` bits, packed ``(N, GRID * GRID / 8)``; all zero where it is nearly plain."""
    parts = []
    for start in range(0, len(images), BLOCK):
        pixels = torch.from_numpy(np.array(images.pixels[start : start + BLOCK]))
        grey = pixels.float().mean(1, keepdim=True)
        small = F.interpolate(grey, size=(GRID, GRID + 1), mode="bilinear", antialias=True, align_corners=False)[:, 0]
        bits = (small[:, :, 1:] > small[:, :, :-1]).flatten(1) & (small.flatten(1).std(1, keepdim=True) > FLAT)
        parts.append(np.packbits(bits.numpy(), axis=1))
    return np.concatenate(parts) if parts else np.zeros((0, GRID * GRID // 8), np.uint8)
