"""Batches of the downsampled ImageNet, by old and new pickles; and files that are none, some of them hostile."""

from __future__ import annotations

import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.imagenet32 import pool, read_batch
from tests.support.composing import composed

RANDOM = np.random.default_rng(0)


def batch(count: int = 6, size: int = 32) -> dict[str, Any]:
    data = RANDOM.integers(0, 256, (count, 3 * size * size), dtype=np.uint8)
    return {"data": data, "labels": RANDOM.integers(1, 1001, count).tolist(), "mean": data.mean(0)}


class Python2(pickle._Pickler):  # type: ignore[misc, name-defined]
    """Writes text and bytes as Python 2 does: both are its ``str``, raw."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def _raw(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _raw


def python2(value: Any, file: Path) -> None:
    with file.open("wb") as stream:
        Python2(stream, 2).dump(value)


def by_numpy_1(raw: bytes) -> bytes:
    return raw.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.mark.parametrize("form", ["2", "3", "4", "5", "numpy 1", "python 2", "bytes as keys", "labels in an array"])
def test_a_batch_is_read_however_it_was_pickled(form: str, tmp_path: Path) -> None:
    file, made = tmp_path / "train_data_batch_1", batch()
    if form == "python 2":
        python2(made, file)
        words = {opcode.name for opcode, _, _ in pickletools.genops(file.read_bytes())}
        assert "BINSTRING" in words and not {"BINUNICODE", "BINBYTES"} & words
    elif form == "bytes as keys":
        file.write_bytes(pickle.dumps({key.encode(): value for key, value in made.items()}))
    elif form == "labels in an array":
        file.write_bytes(pickle.dumps({**made, "labels": np.array(made["labels"])}))
    elif form == "numpy 1":
        raw = pickle.dumps(made, 2)
        file.write_bytes(by_numpy_1(raw))
        assert file.read_bytes() != raw or b"numpy.core.multiarray" in raw
    else:
        file.write_bytes(pickle.dumps(made, int(form)))
    got = read_batch(file, 32)
    for at, row in enumerate(made["data"]):  # red, green, blue, each row by row
        for channel in range(3):
            plane = row[channel * 1024 : (channel + 1) * 1024]
            np.testing.assert_array_equal(got[at, channel], [plane[y * 32 : y * 32 + 32] for y in range(32)])


def folder_of(root: Path, *counts: int) -> list[np.ndarray]:
    made = [batch(count) for count in counts]
    for number, one in enumerate(made, start=1):
        (root / f"train_data_batch_{number}").write_bytes(pickle.dumps(one, 2))
    return [one["data"].reshape(-1, 3, 32, 32) for one in made]


def test_the_pool_is_of_some_batches_or_a_random_part_of_them(tmp_path: Path) -> None:
    one, two, three = folder_of(tmp_path, 9, 7, 8)
    store = Store(tmp_path / "cache")
    first = pool(store, str(tmp_path))
    np.testing.assert_array_equal(first.pixels, one)
    assert isinstance(first.pixels, np.memmap) and first.labels is None
    both = np.concatenate([three, two])
    np.testing.assert_array_equal(pool(store, str(tmp_path), batches=[3, 2]).pixels, both)
    some = pool(store, str(tmp_path), batches=[3, 2], count=6, seed=1)
    order = np.sort(np.random.default_rng(1).permutation(15)[:6])
    np.testing.assert_array_equal(some.pixels, both[order])
    few = {image.tobytes() for image in pool(store, str(tmp_path), batches=[3, 2], count=3, seed=1).pixels}
    assert few < {image.tobytes() for image in some.pixels}
    with pytest.raises(DataError, match="10 images are asked for of 9"):
        pool(store, str(tmp_path), count=10)
    for wrong in ([], [1, 1], [0], [11]):
        with pytest.raises(DataError, match="different numbers from 1 to 10"):
            pool(store, str(tmp_path), batches=wrong)


def test_its_config_reads_the_folder_it_is_given_and_counts_by_name(tmp_path: Path) -> None:
    (one,) = folder_of(tmp_path, 5)
    cfg = composed("query=imagenet32", f"query.root={tmp_path}", "query.count=4")
    build.check(cfg)
    images = build.make(cfg.query, store=Store(tmp_path / "cache"))
    assert {image.tobytes() for image in images.pixels} < {image.tobytes() for image in one}


def test_a_missing_download_says_where_to_get_it_and_how_to_place_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no .*train_data_batch_1\. .*image-net.org.*Imagenet32_train.*query.root=/path"
    ):
        pool(Store(tmp_path / "cache"), str(tmp_path))


RAN: list[str] = []


def ran(what: str) -> dict[str, Any]:
    """What a hostile pickle calls: it would give a perfect batch."""
    RAN.append(what)
    return batch()


class Hostile:
    def __reduce__(self) -> Any:
        return ran, ("the batch",)


class Deep:
    """Hostile inside a batch that is sound otherwise."""

    def __reduce__(self) -> Any:
        return ran, ("the labels",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_is_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "train_data_batch_1"
    for made in (Hostile(), {**batch(), "labels": Deep()}):
        file.write_bytes(pickle.dumps(made, protocol))
        RAN.clear()
        with pytest.raises(DataError, match=r"train_data_batch_1 is no batch.*asks for .*\.ran, .*not run"):
            pool(Store(tmp_path / "cache"), str(tmp_path))
        assert not RAN
        pickle.loads(file.read_bytes())
        assert RAN, "the real unpickler runs it"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (b"cos\nsystem\n(S'echo'\ntR.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "rot13"),
        (b"cnumpy\nndarray\n((L1000000000000L\nttR.", "not callable"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.", "os.system"),
    ],
)
def test_other_calls_are_refused_too(call: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "train_data_batch_1").write_bytes(call)
    with pytest.raises(DataError, match=rf"no batch of ImageNet-32.*{named}"):
        pool(Store(tmp_path / "cache"), str(tmp_path))


def altered(**changes: Any) -> bytes:
    made = {**batch(), **changes}
    return pickle.dumps({key: value for key, value in made.items() if value is not None}, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (altered(data=None), "it has no 'data', but labels, mean"),
        (altered(labels=None), "it has no 'labels'"),
        (altered(data=np.zeros((6, 3072), np.float32)), r"'data' is float32 \(6, 3072\), not uint8 \(n, 3072\)"),
        (altered(data=np.zeros((6, 12288), np.uint8)), r"'data' is uint8 \(6, 12288\)"),
        (altered(data=np.zeros((6, 3, 32, 32), np.uint8)), r"'data' is uint8 \(6, 3, 32, 32\)"),
        (altered(data=[1, 2]), "'data' is list"),
        (altered(labels=[1, 2]), "not one whole number for each of 6 images"),
        (altered(labels=["a"] * 6), "not one whole number for each of 6 images"),
        (altered(labels=[[1], [1, 2], 1, 1, 1, 1]), "not one whole number for each of 6 images"),
        (altered(labels=list(range(6))), "labels run from 0 to 5, not from 1 to 1000"),  # as CIFAR-10's batches
        (altered(data=np.zeros((0, 3072), np.uint8), labels=[]), "each of 0 images"),
        (pickle.dumps([1, 2]), "it holds a list, not a dict"),
        (pickle.dumps(batch(), 2)[:-4000], "UnpicklingError|EOFError"),
        (b"", "EOFError"),
        (b"version https://git-lfs.github.com/spec/v1\n", "UnpicklingError"),
    ],
    ids=range(15),
)
def test_what_is_no_batch_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "train_data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)train_data_batch_1 is no batch of ImageNet-32: .*({says})"):
        pool(Store(tmp_path / "cache"), str(tmp_path))
    assert not list((tmp_path / "cache").glob("images/imagenet*"))


SOUND = pickle.dumps({"data": np.zeros((2, 12), np.uint8), "labels": [1, 2]}, 2)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_batch_is_read_or_named(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "train_data_batch_1"
    file.write_bytes(raw)
    try:
        assert read_batch(file, 2).shape[1:] == (3, 2, 2)
    except DataError as error:
        assert "no batch of ImageNet-2" in str(error)
