from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.data.digits import digits
from fmsteal.data.glyphs import LETTERS, find_letter_fonts, glyphs, render
from fmsteal.data.images import Images, Task, content_digest
from fmsteal.data.procedural import procedural
from fmsteal.data.procedural import render as render_procedural


def test_digits_are_scikit_learns_split_once_and_for_all() -> None:
    task = digits()
    assert (len(task.train), len(task.test), task.num_classes) == (1197, 600, 10)
    assert task.train.pixels.shape[1:] == (3, 32, 32)
    assert digits().test.digest == task.test.digest != digits(seed=1).test.digest
    both = np.concatenate([task.train.labels, task.test.labels])  # type: ignore[list-item]
    np.testing.assert_array_equal(np.bincount(both), np.bincount(load_digits().target))
    twins = set(task.train.image_digests(np.arange(1197))) & set(task.test.image_digests(np.arange(600)))
    assert not twins


def test_an_enlarged_digit_averages_back_to_the_scan() -> None:
    task = digits(size=64)
    small = task.test.pixels[:, 0].reshape(600, 8, 8, 8, 8).mean((2, 4)) / 255
    order = np.random.default_rng(0).permutation(1797)[:600]
    scans = load_digits().images[order] / 16
    assert np.corrcoef(small.ravel(), scans.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("draw", [render, render_procedural])
def test_drawn_sets_are_nested_seeded_and_varied(draw: object) -> None:
    many, few = draw(700, 3, 16), draw(20, 3, 16)  # type: ignore[operator]
    assert many.shape == (700, 3, 16, 16) and many.dtype == np.uint8
    np.testing.assert_array_equal(many[:20], few)
    assert not np.array_equal(draw(20, 4, 16), few)  # type: ignore[operator]
    assert len({image.tobytes() for image in many}) > 690


def test_glyphs_are_letters_in_many_fonts_as_heavy_as_scans() -> None:
    names = {font.name for font in find_letter_fonts()}
    assert {"DejaVuSans.ttf", "STIXGeneral.ttf", "cmr10.ttf"} <= names and len(names) >= 15
    assert not any(n.startswith(("LastResort", "STIXSiz", "STIXNonUni", "cmsy", "cmex")) for n in names)
    assert LETTERS.isalpha() and len(LETTERS) == 52
    assert render(500, 0).mean() == pytest.approx(np.asarray(digits().train.pixels).mean(), rel=0.35)


def test_drawn_sets_are_kept_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = glyphs(store, count=30, size=16)
    assert isinstance(first.pixels, np.memmap) and len(first) == 30
    assert glyphs(store, count=30, size=16).digest == first.digest == content_digest(render(30, 0, 16))
    assert glyphs(store, count=30, size=16, seed=1).digest != first.digest
    assert len(procedural(store, count=5)) == 5
    with pytest.raises(ConfigError, match=r"query.count"):
        glyphs(store, count=0)


def test_sets_that_make_no_sense_are_refused() -> None:
    pixels = np.zeros((4, 3, 2, 2), np.uint8)
    with pytest.raises(DataError, match="uint8"):
        Images(pixels.astype(np.float32), "x")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="uint8"):
        Images(pixels[:, :1], "x")
    with pytest.raises(DataError, match="labels of shape"):
        Images(pixels, "x", np.zeros(3, np.int64), ["a"])
    with pytest.raises(DataError, match="1 classes"):
        Images(pixels, "x", np.array([0, 1, 0, 0]), ["a"])
    good = Images(pixels, "x", np.zeros(4, np.int64), ["a", "b"])
    other = Images(pixels, "y", np.zeros(4, np.int64), ["a", "b", "c"])
    with pytest.raises(DataError, match="2 classes and the test split 3; in one of them only: c"):
        Task(good, other)
