"""Copies are found, other images are not taken for copies, and a job says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config.schema import Overlap
from fmsteal.data import glyphs, procedural
from fmsteal.data.decode import crop_square
from fmsteal.data.digits import digits
from fmsteal.data.images import Images, Pixels, Task, content_digest
from fmsteal.data.overlap import count_overlap
from fmsteal.job.pipeline import mind_overlap
from tests.support.commands import Run
from tests.support.composing import SMALL

SEEMS = "seems to hold images of the victim's own data: "
PICTURES = procedural.render(160, 0, 64)


def images(pixels: Pixels) -> Images:
    labels = np.zeros(len(pixels), np.int64)
    return Images(pixels, content_digest(pixels, labels), labels, ("all",))


def as_task(train: Pixels, test: Pixels) -> Task:
    return Task(images(train), images(test))


def resized(pixels: Pixels, size: int) -> Pixels:
    return np.stack([crop_square(Image.fromarray(x.transpose(1, 2, 0)), size) for x in pixels])


def compressed(pixels: Pixels, quality: int) -> Pixels:
    out = []
    for x in pixels:
        file = io.BytesIO()
        Image.fromarray(x.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)).transpose(2, 0, 1))
    return np.stack(out)


def test_exact_copies_are_counted_wherever_they_are(tmp_path: Path) -> None:
    pool = images(np.concatenate([procedural.render(300, 5, 64), PICTURES[40:110]])).unlabelled()
    assert count_overlap(Store(tmp_path), pool, as_task(PICTURES[:100], PICTURES[100:])) == {"train": 60, "test": 10}
    some = pool.subset(np.arange(300, 320))
    assert count_overlap(Store(tmp_path), some, as_task(PICTURES[:100], PICTURES[100:])) == {"train": 20, "test": 0}
    assert len(list((tmp_path / "thumbnails").iterdir())) == 3, "a subset has its set's"


@pytest.mark.parametrize(
    ("copy", "share"),
    [(lambda p: resized(p, 32), 0.97), (lambda p: resized(p, 224), 0.97), (lambda p: compressed(p, 90), 0.95),
     (lambda p: compressed(p, 75), 0.9), (lambda p: compressed(resized(p, 48), 75), 0.9)],
    ids=["smaller", "larger", "JPEG 90", "JPEG 75", "smaller and JPEG 75"],
)  # fmt: skip
def test_copies_of_another_size_or_compressed_again_are_found(copy: object, share: float, tmp_path: Path) -> None:
    found = count_overlap(Store(tmp_path), images(copy(PICTURES)), as_task(PICTURES, PICTURES[:1]))  # type: ignore[operator]
    assert found["train"] >= share * len(PICTURES)


@pytest.mark.slow
def test_other_images_are_none(tmp_path: Path) -> None:
    store, task = Store(tmp_path), digits()
    for pool in (glyphs.glyphs(store, count=2000), procedural.procedural(store, count=2000)):
        assert count_overlap(store, pool, task) == {"train": 0, "test": 0}
    assert count_overlap(store, task.train, Task(task.test, task.test)) == {"train": 0, "test": 0}, "digits are alike"
    other = as_task(procedural.render(1000, 1, 32), glyphs.render(600, 1, 32))
    assert count_overlap(store, procedural.procedural(store, count=2000), other) == {"train": 0, "test": 0}


def test_plain_images_are_never_counted(tmp_path: Path) -> None:
    plain = np.full((6, 3, 32, 32), 128, np.uint8)
    plain += np.random.default_rng(0).integers(0, 3, plain.shape, dtype=np.uint8)
    assert count_overlap(Store(tmp_path), images(plain), as_task(plain, plain)) == {"train": 0, "test": 0}


@pytest.mark.slow
def test_a_job_refuses_it_or_warns(fmsteal: Run) -> None:
    copies = (*SMALL, "query=task", "data@query.of=digits")
    refused = fmsteal(*copies, "overlap=refuse", ok=False).stderr
    assert SEEMS in refused and "overlap=allow" in refused and "Traceback" not in refused
    warned = fmsteal(*copies)
    assert SEEMS in warned.stdout + warned.stderr


def test_what_is_allowed_or_not_there_is_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task, store = digits(), Store(tmp_path)
    mind_overlap(store, task.train.unlabelled(), task, Overlap.allow)
    mind_overlap(store, glyphs.glyphs(store, count=100), task, Overlap.refuse)
    assert not caplog.records
    mind_overlap(store, task.train.unlabelled(), task, Overlap.warn)
    assert f"{SEEMS}1197 of the train split." in caplog.text
    with pytest.raises(DataError, match=f"{SEEMS}600 of the test split. Choose another"):
        mind_overlap(store, task.test, task, Overlap.refuse)
