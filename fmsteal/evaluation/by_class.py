"""Where victim and thief differ: class by class, and on which test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fmsteal.data.images import Images
from fmsteal.tracking.base import Tracker

CELLS = 1000  # rows of a confusion table: if there are more cells, the rarest are added up
SHOWN = 16  # images in the sample of disagreements
SIDE = 128  # pixels that a picture is shrunk to, if it is larger

Labels = npt.NDArray[Any]
Row = Sequence[Any]
OTHERS = "(others)"


def show_classes(tracker: Tracker, place: str, images: Images, victim: Labels, thief: Labels) -> None:
    """Log the tables ``per_class`` and ``confusion``, and the pictures ``disagreements``, below ``place`` (``test``).

    ``victim`` and ``thief`` are the labels ``(n,)`` that each gives to the labelled images.
    """
    names = list(images.classes)
    labels = np.array(images.labels)
    columns = ("class", "images", "victim accuracy", "thief accuracy", "predicted by victim", "agreement")
    tracker.table(f"{place}/per_class", columns, per_class(names, labels, victim, thief))
    tracker.table(f"{place}/confusion", ("victim", "thief", "images"), confusion(names, victim, thief))
    shown = [
        (picture(images, i), f"victim: {names[victim[i]]}, thief: {names[thief[i]]}, label: {names[labels[i]]} (#{i})")
        for i in sample(victim, thief)
    ]
    tracker.images(f"{place}/disagreements", shown)


def per_class(names: Sequence[str], labels: Labels, victim: Labels, thief: Labels) -> list[Row]:
    """For each class: its number of images and both accuracies on them; how often the victim predicts
    it, and how often the thief then does too."""

    def share(which: npt.NDArray[np.bool_]) -> float | None:
        return float(which.mean()) if len(which) else None

    rows: list[Row] = []
    for number, name in enumerate(names):
        own, said = labels == number, victim == number
        accuracies = share(victim[own] == number), share(thief[own] == number)
        rows.append((name, int(own.sum()), *accuracies, int(said.sum()), share(thief[said] == number)))
    return rows


def confusion(names: Sequence[str], victim: Labels, thief: Labels) -> list[Row]:
    """Number of images for each pair of the victim's and the thief's label: non-empty cells, the fullest first.

    If there are more than `CELLS`, the rest are added up in a last row: a thousand classes have a million cells.
    """
    counts = Counter(zip(victim.tolist(), thief.tolist(), strict=True))
    cells = sorted(counts.items(), key=lambda cell: (-cell[1], cell[0]))
    shown = cells if len(cells) <= CELLS else cells[: CELLS - 1]
    rows: list[Row] = [(names[v], names[t], count) for (v, t), count in shown]
    if len(shown) < len(cells):
        rows.append((OTHERS, OTHERS, sum(count for _, count in cells[len(shown) :])))
    return rows


def sample(victim: Labels, thief: Labels) -> list[int]:
    """At most `SHOWN` random images on which the two disagree, the same ones for the same two."""
    apart = np.flatnonzero(victim != thief)
    return np.sort(np.random.default_rng(0).permutation(apart)[:SHOWN]).tolist()


def picture(images: Images, number: int) -> Image.Image:
    """A test image as stored, shrunk to `SIDE` if it is larger."""
    shown = Image.fromarray(np.ascontiguousarray(np.array(images.pixels[number]).transpose(1, 2, 0)))
    shown.thumbnail((SIDE, SIDE))
    return shown
