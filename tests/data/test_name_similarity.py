"""The query set weighted by class names: shares against a plain loop, what is drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.data.images import Images, Task
from fmsteal.data.name_similarity import share_out, worth_of
from tests.support.composing import composed
from tests.support.small_clip import small_clip

open_clip = pytest.importorskip("open_clip")
CLASSES, SIZES = ["apple", "bridge", "cloud", "drum"], [30, 20, 25, 5]


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), min_size=1, max_size=8), st.integers(1, 200))
@settings(max_examples=200)
def test_shares_are_in_proportion_as_far_as_classes_reach(classes: list[tuple[int, float]], count: int) -> None:
    sizes, worth = np.array([n for n, _ in classes]), np.array([round(w, 3) for _, w in classes])
    if count > sizes[worth > 0].sum():
        with pytest.raises(DataError, match=rf"query\.count={count}: .* hold {sizes[worth > 0].sum()} images"):
            share_out(count, worth, sizes)
        return
    found = share_out(count, worth, sizes)
    assert found.sum() == count and (found <= sizes).all() and (found >= 0).all() and not found[worth == 0].any()
    low, high = 0.0, 1e9  # a plain search for the factor f with sum min(size, f size worth) = count
    for _ in range(200):
        factor = (low + high) / 2
        total = sum(min(n, factor * n * w) for n, w in zip(sizes, worth, strict=True))
        low, high = (factor, high) if total < count else (low, factor)
    due = np.array([min(n, high * n * w) for n, w in zip(sizes, worth, strict=True)])
    assert np.abs(found - due).max() <= 1 + 1e-4


def test_worth_is_the_sum_of_cosines_from_least_to_greatest() -> None:
    cosines = np.array([[0.2, 0.4], [0.9, 0.1], [0.0, 0.1]])
    np.testing.assert_allclose(worth_of(cosines), [(0.6 - 0.1) / 0.9, 1.0, 0.0])
    np.testing.assert_array_equal(worth_of(np.full((3, 2), 0.5)), [1, 1, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, size in zip(CLASSES, SIZES, strict=True):
        for number in range(size):
            (tmp_path / "set" / "train" / name).mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "train" / name / f"{number}.png")
        (tmp_path / "set" / "test" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "set" / "test" / name / "0.png")
    return tmp_path


def made(folder: Path, *overrides: str) -> tuple[Images, Task]:
    words = small_clip(folder / "clip") if not (folder / "clip").exists() else []
    words = words or [
        f"model={folder}/clip/open_clip_config.json",
        f"weights={folder}/clip/open_clip_model.safetensors",
    ]
    cfg = composed(
        "query=name_similarity", "data@query.of=image_folder", f"query.of.root={folder / 'set'}", "query.of.size=8",
        *(f"query.clip.{word}" for word in words), *overrides,
    )  # fmt: skip
    build.check(cfg)
    store = Store(folder / "cache")
    return build.make(cfg.query, store=store, task=digits()), build.make(cfg.query.of, store=store)


NUMBERS = "query.victim_names=[zero,one,two,three,four,five,six,seven,eight,nine]"


def test_images_are_drawn_by_what_open_clip_says_of_the_names(folder: Path) -> None:
    pool, source = made(folder, NUMBERS, "query.count=30")
    name = f"local-dir:{folder / 'clip'}"
    model, tokenize = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    with torch.no_grad():
        own = model.encode_text(tokenize(CLASSES), normalize=True)
        theirs = model.encode_text(
            tokenize(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]), normalize=True
        )
    sums = (own @ theirs.T).sum(1)
    weights = ((sums - sums.min()) / (sums.max() - sums.min())).numpy() * SIZES
    labels = {d: int(y) for d, y in zip(digests(source.train), source.train.labels, strict=True)}
    found = np.bincount([labels[d] for d in digests(pool)], minlength=4)
    due = np.minimum(30 * weights / weights.sum(), SIZES)
    assert len(pool) == 30 and pool.labels is None and not pool.classes
    assert found[int(sums.argmin())] == 0 and np.abs(found - due).max() <= 2
    assert made(folder, NUMBERS, "query.count=30")[0].digest == pool.digest
    other = made(folder, NUMBERS, "query.count=30", "query.seed=1")[0]
    assert other.digest != pool.digest
    assert len(list((folder / "cache" / "texts").glob("[!.]*"))) == 1, "the text tower was asked once"


def digests(images: Images) -> list[bytes]:
    return images.image_digests(np.arange(len(images)))


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        (["query.count=30"], ConfigError, r"class '0' has no name .*query\.victim_names=\[zero"),
        (
            [NUMBERS, "query.names={apple: a, bridge: b}"],
            ConfigError,
            r"query\.names has no text for the class 'cloud'",
        ),
        ([NUMBERS, "query.count=79"], DataError, r"query\.count=79"),
        ([NUMBERS, "query.template=x"], ConfigError, r"query\.template=x must have one"),
        ([NUMBERS, "query.names=/no/words.txt"], DataError, r"query\.names=/no/words\.txt is no file"),
    ],
)
def test_what_cannot_be_weighed_is_refused(folder: Path, words: list[str], kind: Any, match: str) -> None:
    with pytest.raises(kind, match=match):
        made(folder, *words)
