"""torchvision's own loaders on files of their own formats, made here: small, but read by the real code."""

from __future__ import annotations

import gzip
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.data.torchvision_sets import decode_split, pool, task
from tests.support.composing import composed
from tests.support.idx import idx

RANDOM = np.random.default_rng(0)
SPLITS = {"train": {"train": True}, "test": {"train": False}}


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    for name, count in (("train", 30), ("t10k", 20)):
        idx(raw / f"{name}-images-idx3-ubyte", RANDOM.integers(0, 256, (count, 28, 28)))
        idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path / "data"


def test_a_set_with_splits(fashion: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    made = task(store, "FashionMNIST", str(fashion), **SPLITS, size=28)  # type: ignore[arg-type]
    assert (len(made.train), len(made.test)) == (30, 20) and made.train.classes[0] == "T-shirt/top"
    raw = np.frombuffer((fashion / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    np.testing.assert_array_equal(made.test.pixels[:, 1], raw.reshape(20, 28, 28))
    assert made.test.labels is not None and made.test.labels.tolist() == [*range(10), *range(10)]
    shutil.rmtree(fashion)
    again = task(store, "FashionMNIST", str(fashion), **SPLITS, size=28)  # type: ignore[arg-type]
    assert again.train.digest == made.train.digest  # decoded once: the files are not needed any more


def test_subsets_are_by_count_and_seed(fashion: Path, tmp_path: Path) -> None:
    def some(seed: int, count: int = 12) -> object:
        store = Store(tmp_path / "cache")
        return task(store, "FashionMNIST", str(fashion), **SPLITS, train_count=count, seed=seed).train.digest  # type: ignore[arg-type]

    assert some(0) == some(0) != some(1)
    with pytest.raises(DataError, match="31 images are asked for of 30"):
        some(0, 31)


def test_a_set_without_splits_is_split(tmp_path: Path) -> None:
    for name in ("Forest", "River"):
        (tmp_path / "eurosat" / "2750" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (64, 64), (i, i, i)).save(tmp_path / "eurosat" / "2750" / name / f"{i}.png")
    made = task(Store(tmp_path / "cache"), "EuroSAT", str(tmp_path), train={}, test=None, size=8, test_share=0.3)
    assert (len(made.train), len(made.test)) == (14, 6) and list(made.train.classes) == ["Forest", "River"]


COUNTS = {"001.ak47": 6, "002.american-flag": 4, "257.clutter": 5}


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    """Caltech-256's folders, of three classes; an image's grey is its own number."""
    grey = iter(range(0, 250, 10))
    for number, (name, count) in enumerate(COUNTS.items(), start=1):
        folder = tmp_path / "caltech256" / "256_ObjectCategories" / name
        folder.mkdir(parents=True)
        for i in range(1, count + 1):
            Image.new("RGB", (40, 30), (next(grey),) * 3).save(folder / f"{number:03d}_{i:04d}.jpg")
    return tmp_path


def greys(images: Images) -> dict[str, list[int]]:
    """Whose images a set holds, by class."""
    assert images.labels is not None
    found: dict[str, list[int]] = {name: [] for name in images.classes}
    for label, pixels in zip(images.labels, images.pixels, strict=True):
        found[images.classes[label]].append(round(int(pixels[0, 0, 0]), -1))
    return found


def test_caltech256_sets_some_of_each_class_aside_without_the_clutter(caltech: Path, tmp_path: Path) -> None:
    cfg = composed("data=caltech256", f"data.root={caltech}", "data.size=8", "data.download=false")
    assert cfg.data.test_each == 25 and list(cfg.data.without) == ["257.clutter"]
    cfg.data.test_each = 2
    build.check(cfg)
    made = build.make(cfg.data, store=Store(tmp_path / "cache"))
    train, test = greys(made.train), greys(made.test)
    assert list(train) == list(test) == ["001.ak47", "002.american-flag"]
    assert [len(of) for of in test.values()] == [2, 2] and [len(of) for of in train.values()] == [4, 2]
    assert sorted(train["001.ak47"] + test["001.ak47"]) == list(range(0, 60, 10))
    assert sorted(train["002.american-flag"] + test["002.american-flag"]) == list(range(60, 100, 10))
    cfg.data.seed = 1
    other = build.make(cfg.data, store=Store(tmp_path / "cache"))
    assert greys(other.test) != test and other.test.digest != made.test.digest


def test_a_class_in_the_middle_can_be_left_out(caltech: Path, tmp_path: Path) -> None:
    made = decode_split(Store(tmp_path / "cache"), "Caltech256", str(caltech), {}, 8, False)
    left = made.without(["002.american-flag"])
    assert greys(left) == {name: of for name, of in greys(made).items() if name != "002.american-flag"}
    assert left.digest not in (made.digest, made.without(["257.clutter"]).digest)
    np.testing.assert_array_equal(left.place(np.arange(11)), [*range(6), *range(10, 15)])  # features stay shared


def test_what_cannot_be_set_aside_or_left_out_is_named(caltech: Path, tmp_path: Path) -> None:
    store, of = Store(tmp_path / "cache"), ("Caltech256", str(caltech))
    for options, match in (
        (
            {"test_each": 4},
            r"test_each=4 must be at least 1 and leave images of every class; '002.american-flag' has 4",
        ),
        ({"test_each": 0}, r"test_each=0 must be at least 1"),
        ({"without": ["clutter"]}, r"data.without names no class of the data set: clutter. It has 001.ak47"),
        ({"without": list(COUNTS)}, "leaves no class"),
    ):
        with pytest.raises(DataError, match=match):
            task(store, *of, train={}, test=None, size=8, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data\.test_each=5 is for data sets without a test split"):
        task(store, *of, train={}, test={}, test_each=5)


def test_a_split_is_a_pool_without_labels(fashion: Path, tmp_path: Path) -> None:
    images = pool(Store(tmp_path / "cache"), "FashionMNIST", str(fashion), split={"train": True}, size=16, count=7)
    assert images.pixels.shape == (7, 3, 16, 16) and images.labels is None


def test_a_split_that_is_partly_unlabelled_is_one_to_pretrain_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, count in (("train", 6), ("unlabeled", 9), ("test", 4)):
        RANDOM.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{name}_X.bin")
        if name != "unlabeled":
            (np.arange(count, dtype=np.uint8) % 10 + 1).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)  # of the real files' sums
    test = {"split": "test"}
    made = task(
        Store(tmp_path / "cache"), "STL10", str(tmp_path), train={"split": "train+unlabeled"}, test=test, size=32
    )
    assert len(made.train) == 15 and made.train.labels is None and len(made.test) == 4 and made.num_classes == 10
    some = task(
        Store(tmp_path / "cache"), "STL10", str(tmp_path), train={"split": "train+unlabeled"}, test=test, train_count=7
    )
    assert len(some.train) == 7 and some.train.labels is None and list(some.train.classes) == list("abcdefghij")


def test_what_cannot_be_had_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    store = Store(tmp_path / "cache")
    for dataset, split in (("CIFAR10", {"train": True}), ("ImageNet", {"split": "train"})):
        with pytest.raises(DataError, match=rf"{dataset} is not under .*Fetch it where.*data\.root=/path"):
            task(store, dataset, str(tmp_path / "nothing"), train=split, test=split)
    with pytest.raises(ConfigError, match="no data set 'CIFAR11'"):
        task(store, "CIFAR11", str(tmp_path), train={}, test={})


FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in FASHION.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    made = task(Store(tmp_path / "cache"), "FashionMNIST", str(tmp_path), **SPLITS)  # type: ignore[arg-type]
    assert (len(made.train), len(made.test)) == (60_000, 10_000)
    assert np.bincount(made.test.labels).tolist() == [1000] * 10  # type: ignore[arg-type]
