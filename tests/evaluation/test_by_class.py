from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fmsteal.data.images import Images
from fmsteal.evaluation.by_class import CELLS, OTHERS, SHOWN, SIDE, confusion, per_class, picture, sample, show_classes
from fmsteal.tracking.base import CsvTracker

LABELS = np.array([0, 0, 1, 1, 2, 2])
VICTIM = np.array([0, 1, 1, 1, 0, 1])
THIEF = np.array([0, 1, 0, 1, 0, 0])


def test_per_class_figures_by_hand() -> None:
    assert per_class(["a", "b", "c"], LABELS, VICTIM, THIEF) == [
        ("a", 2, 0.5, 0.5, 2, 1.0),
        ("b", 2, 1.0, 0.5, 4, 0.5),
        ("c", 2, 0.0, 0.0, 0, None),  # the victim never says so
    ]
    assert per_class(["a"], np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)) == [("a", 0, None, None, 0, None)]


def test_the_fullest_cells_come_first_and_none_is_lost() -> None:
    assert confusion(["a", "b", "c"], VICTIM, THIEF) == [("a", "a", 2), ("b", "a", 2), ("b", "b", 2)]
    random = np.random.default_rng(0)
    victim, thief = random.integers(0, 100, (2, 20_000))
    names = [f"class {i}" for i in range(100)]
    rows = confusion(names, victim, thief)
    assert len(rows) == CELLS and sum(count for *_, count in rows) == 20_000
    assert rows[-1][:2] == (OTHERS, OTHERS) and all(count >= rows[-2][2] for *_, count in rows[:-1])
    v, t, count = rows[0]
    assert count == np.sum((victim == names.index(v)) & (thief == names.index(t)))


@pytest.mark.parametrize("apart", [0, 3, 100])
def test_the_sample_is_of_disagreements_alone_and_always_the_same(apart: int) -> None:
    victim, thief = np.zeros(200, int), np.zeros(200, int)
    thief[np.random.default_rng(1).permutation(200)[:apart]] = 1
    found = sample(victim, thief)
    assert found == sample(victim, thief) == sorted(set(found)) and len(found) == min(apart, SHOWN)
    assert all(thief[i] == 1 for i in found)


def test_pictures_are_the_stored_pixels_or_smaller() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 30)).astype(np.uint8)
    np.testing.assert_array_equal(np.array(picture(Images(pixels, "small"), 0)).transpose(2, 0, 1), pixels[0])
    assert picture(Images(np.zeros((1, 3, 400, 200), np.uint8), "large"), 0).size == (SIDE // 2, SIDE)


def test_without_a_service_the_tables_are_files(tmp_path: Path) -> None:
    images = Images(np.zeros((6, 3, 4, 4), np.uint8), "test", LABELS, ("a", "b", "c"))
    show_classes(CsvTracker(tmp_path), "downstream/digits", images, VICTIM, THIEF)
    with (tmp_path / "tables" / "downstream" / "digits" / "per_class.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["a", "b", "c"] and rows[2]["agreement"] == ""
    assert rows[1]["agreement"] == "0.5" and rows[1]["predicted by victim"] == "4"
