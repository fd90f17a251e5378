"""Data sets as `datasets` writes them itself: folders of save_to_disk, and its cache, without a network."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data import image_folder
from fmsteal.data.available import require_available
from fmsteal.data.huggingface import pool, task
from fmsteal.data.images import Images
from tests.support.composing import composed, hash_now
from tests.support.shards import draw_jpeg

datasets = pytest.importorskip("datasets")

COUNT, SIZE, NAMES = 24, 24, ["ant", "bee", "cat"]


def rows(count: int, first: int = 0, **more: Any) -> Any:
    """A data set of drawn JPEGs with labels ``number % 3``."""
    numbers = range(first, first + count)
    features = {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES), "id": datasets.Value("int64")}
    found = {
        "photo": [{"bytes": draw_jpeg(at), "path": None} for at in numbers],
        "kind": [at % 3 for at in numbers],
        "id": list(numbers),
    }
    for name, (feature, values) in more.items():
        features[name], found[name] = feature, values
    return datasets.Dataset.from_dict(found, features=datasets.Features(features))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "birds"
    datasets.DatasetDict({"train": rows(COUNT), "test": rows(9, COUNT)}).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The same JPEGs below a folder, as `image_folder` decodes them."""
    folder = tmp_path_factory.mktemp("unpacked")
    for at in range(COUNT + 9):
        (folder / f"{at:03d}.jpg").write_bytes(draw_jpeg(at))
    return image_folder.pool(Store(tmp_path_factory.mktemp("cache")), str(folder), size=SIZE)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_saved_folder_is_a_pool_and_a_count_of_it(saved: Path, unpacked: Images, tmp_path: Path) -> None:
    cfg = composed("query=huggingface", f"query.root={saved}", f"query.size={SIZE}")
    require_available(cfg.query, Store(tmp_path))
    images = build.make(cfg.query, store=Store(tmp_path), task=None)
    np.testing.assert_array_equal(images.pixels, unpacked.pixels[:COUNT])
    assert images.labels is None and isinstance(images.pixels, np.memmap)
    some = pool(Store(tmp_path), str(saved), split="test", size=SIZE, count=4, seed=1)
    ids = np.sort(np.random.default_rng(1).permutation(9)[:4])
    np.testing.assert_array_equal(some.pixels, unpacked.pixels[COUNT + ids])
    with pytest.raises(DataError, match="25 images are asked for of 24"):
        pool(Store(tmp_path), str(saved), count=25)


def test_only_what_is_chosen_is_read(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], datasets.Dataset.__getitem__
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda self, key: read.append(key) or real(self, key))
    pool(Store(tmp_path), str(saved), size=SIZE, count=5)
    assert sorted(read) == np.sort(np.random.default_rng(0).permutation(COUNT)[:5]).tolist()
    read.clear()
    pool(Store(tmp_path), str(saved), size=SIZE, count=5)
    assert not read


def test_class_labels_make_a_task(saved: Path, unpacked: Images, tmp_path: Path) -> None:
    made = task(Store(tmp_path), str(saved), size=SIZE)
    assert list(made.train.classes) == NAMES and (len(made.train), len(made.test)) == (COUNT, 9)
    assert made.train.labels.tolist() == [at % 3 for at in range(COUNT)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(made.test.pixels, unpacked.pixels[COUNT:])
    few = task(Store(tmp_path), str(saved), size=SIZE, test_split=None, test_share=0.25, train_count=6, rest_count=None)
    assert (len(few.train), len(few.test), len(few.rest or ())) == (6, 6, 12)
    assert np.bincount(few.train.labels).tolist() == [2, 2, 2]  # type: ignore[arg-type]


def test_labels_may_be_names_or_numbers_of_a_named_column(tmp_path: Path) -> None:
    words = ["owl", "emu"] * 5
    rows(10, of=(datasets.Value("string"), words)).save_to_disk(tmp_path / "one")
    made = task(Store(tmp_path / "cache"), str(tmp_path / "one"), test_split=None, label="of")
    assert list(made.train.classes) == ["emu", "owl"]
    numbered = task(Store(tmp_path / "cache"), str(tmp_path / "one"), test_split=None, label="id")
    assert list(numbered.train.classes) == [str(number) for number in range(10)]


def test_a_broken_image_is_named_or_passed_over(tmp_path: Path) -> None:
    whole = rows(8)
    cells = [{"bytes": draw_jpeg(at)[:-99] if at == 5 else draw_jpeg(at), "path": None} for at in range(7)] + [None]
    whole = whole.remove_columns("photo").add_column("photo", cells).cast_column("photo", datasets.Image())
    whole.save_to_disk(tmp_path / "one")
    with pytest.raises(DataError, match=r"2 image\(s\) cannot be decoded, first row 5 of train \(OSError.*broken=skip"):
        pool(Store(tmp_path / "cache"), str(tmp_path / "one"))
    assert len(pool(Store(tmp_path / "cache"), str(tmp_path / "one"), broken="skip")) == 6


def test_what_is_no_data_set_or_lacks_a_column_is_named(saved: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    (tmp_path / "void").mkdir()
    rows(4, other=(datasets.Image(), [None] * 4)).save_to_disk(tmp_path / "two")
    rows(4).remove_columns("photo").save_to_disk(tmp_path / "none")
    unknown = rows(4).remove_columns("kind").add_column("kind", [0, 1, -1, 0])
    unknown.cast_column("kind", datasets.ClassLabel(names=NAMES)).save_to_disk(tmp_path / "unlabelled")
    for make, options, says in (
        (pool, {"root": str(tmp_path / "absent")}, "There is no folder .*absent of a data set"),
        (pool, {"root": str(tmp_path / "void")}, "no folder that save_to_disk has written"),
        (pool, {"root": str(saved), "split": "dev"}, "no split 'dev', but train, test: query.split=NAME"),
        (pool, {"root": str(saved), "image": "id"}, r"no column 'id' of images, but photo \(Image\), kind"),
        (pool, {"root": str(tmp_path / "two")}, r"has 2 columns of Image: name the one of images, query\.image=NAME"),
        (pool, {"root": str(tmp_path / "none")}, r"has 0 columns of Image"),
        (task, {"root": str(tmp_path / "unlabelled"), "test_split": None}, "Row 2 of the column 'kind' is -1, "),
        (task, {"root": str(tmp_path / "two"), "image": "photo"}, r"no test split 'test' \(is a single one\): data"),
        (task, {"root": str(saved), "test_split": "dev"}, r"no test split 'dev' \(train, test\).*test_split=null sets"),
        (pool, {"dataset": "/data/birds"}, "is no name of a data set, but a path"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=says):
            make(store, **options)  # type: ignore[operator]
    for both in ({}, {"root": str(saved), "dataset": "birds"}):
        with pytest.raises(ConfigError, match=r"query\.root=/path, or a name, query\.dataset=NAME.*(neither|both) is"):
            pool(store, **both)  # type: ignore[arg-type]


class Birds(datasets.GeneratorBasedBuilder):  # type: ignore[name-defined, misc]
    """What `datasets` keeps in its cache of a data set that it has fetched."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> Any:
        return datasets.DatasetInfo(features=rows(0).features)

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        return [datasets.SplitGenerator(name="train")]

    def _generate_examples(self) -> Any:
        yield from enumerate(rows(COUNT).cast_column("photo", datasets.Image(decode=False)))


@pytest.mark.usefixtures("no_network")
def test_a_name_is_read_from_the_cache_without_a_network(
    unpacked: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Birds(cache_dir=str(tmp_path / "hub"), dataset_name="birds", repo_id="lab/birds", hash="0").download_and_prepare()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    before = datasets.config.HF_HUB_OFFLINE
    images = pool(Store(tmp_path / "cache"), dataset="lab/birds", size=SIZE)
    np.testing.assert_array_equal(images.pixels, unpacked.pixels[:COUNT])
    assert before == datasets.config.HF_HUB_OFFLINE


@pytest.mark.usefixtures("no_network")
def test_a_name_that_is_not_in_the_cache_says_the_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    cfg = composed("query=huggingface", "query.dataset=lab/bees")
    says = r"lab/bees is not in the local cache .*query\.download=true.*Or: where there is a network, .*save_to_disk"
    with pytest.raises(DataError, match=says):
        require_available(cfg.query, Store(tmp_path))


def test_a_folder_counts_by_names_and_sizes_and_a_name_by_itself(saved: Path, tmp_path: Path) -> None:
    datasets.load_from_disk(str(saved)).save_to_disk(tmp_path / "again")
    known = hash_now(f"query=huggingface query.root={saved}")
    assert hash_now(f"query=huggingface query.root={tmp_path}/again") == known
    named = hash_now("query=huggingface query.dataset=lab/birds")
    assert named != hash_now("query=huggingface query.dataset=lab/bees") != known
    assert named == hash_now("query=huggingface query.dataset=lab/birds query.download=true")


def test_without_the_package_the_error_says_what_to_install(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs: pip install 'fmsteal\[huggingface\]'"):
        pool(Store(saved.parent / "cache"), str(saved))
