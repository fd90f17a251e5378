"""Shards, against the same files in a folder and against webdataset's own loader; and shards that are wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, read_json
from fmsteal.config import build
from fmsteal.data import image_folder, webdataset
from fmsteal.data.available import require_available
from fmsteal.data.from_task import same
from fmsteal.data.images import Images
from fmsteal.data.tar_index import INDEXES
from fmsteal.data.webdataset import pool, task
from tests.support.commands import environment
from tests.support.composing import composed, hash_now
from tests.support.shards import draw_jpeg, label_samples, write_shards, write_tar

COUNT, SIZE = 40, 24

SLOWLY = """
import sys, time
from fmsteal.data import decode, webdataset
from fmsteal.base.store import Store

real, decode.BLOCK = decode.crop_square, 4
decode.crop_square = lambda image, size: time.sleep(0.02) or real(image, size)
webdataset.pool(Store(sys.argv[1]), sys.argv[2], size=24)
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of ten samples, with labels 0 to 3; image 7 is turned by its EXIF orientation."""
    folder, samples = tmp_path_factory.mktemp("shards"), label_samples(COUNT)
    exif = Image.Exif()
    exif[0x0112] = 6
    samples[7]["jpg"] = draw_jpeg(7, (64, 48), exif=exif)
    write_shards(folder, samples)
    return folder


@pytest.fixture(scope="module")
def unpacked(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The same files below a folder, as `image_folder` decodes them."""
    folder = tmp_path_factory.mktemp("unpacked")
    for shard in sorted(shards.iterdir()):
        subprocess.run(["tar", "xf", shard, "-C", folder], check=True)
    return image_folder.pool(Store(tmp_path_factory.mktemp("cache")), str(folder), size=SIZE)


def watch_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces of files that are read by their offset."""
    read: list[int] = []
    real = os.pread

    def pread(file: int, size: int, start: int) -> bytes:
        read.append(size)
        return real(file, size, start)

    monkeypatch.setattr(os, "pread", pread)
    return read


def test_shards_are_what_the_same_files_are_in_a_folder(shards: Path, unpacked: Images, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for root in (shards, shards / "*.tar", f"{shards}/shard-{{000..003}}.tar"):
        images = pool(store, str(root), size=SIZE)
        np.testing.assert_array_equal(images.pixels, unpacked.pixels)
    assert images.labels is None and images.digest == unpacked.digest and isinstance(images.pixels, np.memmap)
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1
    one = pool(store, str(shards / "shard-002.tar"), size=SIZE)
    np.testing.assert_array_equal(one.pixels, unpacked.pixels[20:30])


def test_a_count_is_chosen_before_any_image_is_read(
    shards: Path, unpacked: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watch_reads(monkeypatch)
    some = pool(Store(tmp_path), str(shards), size=SIZE, count=6, seed=1)
    assert len(read) == 6
    ids = np.sort(np.random.default_rng(1).permutation(COUNT)[:6])
    np.testing.assert_array_equal(some.pixels, unpacked.pixels[ids])
    read.clear()
    again = pool(Store(tmp_path), str(shards), size=SIZE, count=6, seed=1)
    assert not read and again.digest == some.digest
    with pytest.raises(DataError, match="41 images are asked for of 40"):
        pool(Store(tmp_path), str(shards), count=41)


def test_headers_are_read_once(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    pool(store, str(shards), size=SIZE, count=3)
    monkeypatch.setattr(webdataset, "list_members", None)  # would fail if it were called
    assert len(pool(store, str(shards), size=16, count=30)) == 30
    assert len(list((tmp_path / INDEXES).iterdir())) == 1


def test_a_shard_that_was_written_anew_is_indexed_anew(tmp_path: Path) -> None:
    samples, store = label_samples(12), Store(tmp_path / "cache")
    write_shards(tmp_path / "s", samples, each=6)
    before = pool(store, str(tmp_path / "s"), size=SIZE)
    write_shards(tmp_path / "s", samples[::-1], each=6)
    np.testing.assert_array_equal(pool(store, str(tmp_path / "s"), size=SIZE).pixels, before.pixels[::-1])


def test_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    """Members of several endings, in folders, in capitals, without an ending, and of the package's own."""
    wds = pytest.importorskip("webdataset")
    members = [
        ("__meta__", b"x"), ("a/1.JPG", draw_jpeg(1)), ("a/1.json", b"{}"), ("b/1.seg.png", b""),
        ("b/1.jpg", draw_jpeg(2)), ("README", b"x"), ("c.d/2.jpeg", draw_jpeg(3)), ("c.d/2.left.cls", b"1"),
        ("3.cls", b"2"), ("3.jpg", draw_jpeg(4)),
    ]  # fmt: skip
    file = write_tar(tmp_path / "x.tar", members)
    theirs = {each["__key__"]: set(each) for each in wds.WebDataset(str(file), shardshuffle=False)}
    with file.open("rb") as stream:
        ours = {key: set(found) for key, found in webdataset.group_members(webdataset.list_members(stream))}
    assert ours == {key: {word for word in found if not word.startswith("__")} for key, found in theirs.items()}
    assert list(ours) == ["a/1", "b/1", "c.d/2", "3"]


@pytest.mark.slow
def test_killed_while_decoding_it_goes_on(shards: Path, unpacked: Images, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, str(tmp_path), str(shards)], env=environment())
    while not (states := list(tmp_path.glob("scratch/images/*/decoded.json"))) or read_json(states[0])["done"] < 12:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = read_json(states[0])["done"]
    assert 12 <= done < COUNT
    with pytest.MonkeyPatch.context() as patch:
        read = watch_reads(patch)
        images = pool(Store(tmp_path), str(shards), size=SIZE)
    assert len(read) == COUNT - done, "what is left, and nothing else"
    np.testing.assert_array_equal(images.pixels, unpacked.pixels)
    assert not list(tmp_path.glob("scratch/*/*"))


def holds(images: Images) -> list[tuple[str, bytes]]:
    assert images.labels is not None
    return [
        (images.classes[label], pixels.tobytes()) for label, pixels in zip(images.labels, images.pixels, strict=True)
    ]


def test_shards_are_a_task_with_stratified_parts(
    shards: Path, unpacked: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    made = task(store, str(shards), size=SIZE, test_share=0.2)
    assert (len(made.train), len(made.test), made.rest) == (32, 8, None)
    assert np.bincount(made.train.labels).tolist() == [8] * 4 and np.bincount(made.test.labels).tolist() == [2] * 4  # type: ignore[arg-type]
    known = {(str(at % 4), image.tobytes()) for at, image in enumerate(unpacked.pixels)}
    assert set(holds(made.train)) | set(holds(made.test)) == known

    read = watch_reads(monkeypatch)
    few = task(store, str(shards), size=SIZE, test_share=0.2, train_count=8, test_count=4, rest_count=3)
    assert len(read) == 8 + 4 + 3 and few.rest is not None
    assert np.bincount(few.train.labels).tolist() == [2] * 4 and set(holds(few.test)) < set(holds(made.test))  # type: ignore[arg-type]
    assert set(holds(few.train)) | set(holds(few.rest)) < set(holds(made.train))
    assert not set(holds(few.train)) & set(holds(few.rest))
    assert len(same(task(store, str(shards), size=SIZE, train_count=8))) == 24


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (lambda k: {"json": json.dumps({"label": k}).encode()}, {"label": "json"}),
        (lambda k: {"json": json.dumps({"of": {"kind": "abcd"[k]}}).encode()}, {"label": "json", "field": "of.kind"}),
        (lambda k: {"txt": b"abcd"[k : k + 1] + b"\n"}, {"label": "txt"}),
        (lambda k: {"cls": str(k).encode()}, {"classes": ["a", "b", "c", "d"]}),
    ],
)
def test_labels_are_numbers_or_names_in_any_member(
    value: Callable[[int], dict[str, bytes]], options: dict[str, Any], tmp_path: Path
) -> None:
    samples = [{"jpg": draw_jpeg(at), **value(at % 4)} for at in range(16)]
    write_shards(tmp_path / "train", samples)
    write_shards(tmp_path / "test", samples[5:8])
    made = task(Store(tmp_path / "cache"), str(tmp_path / "train"), test_root=str(tmp_path / "test"), size=8, **options)
    names = "0123" if options == {"label": "json"} else "abcd"
    assert [made.train.classes[label] for label in made.train.labels] == list(names) * 4  # type: ignore[union-attr]
    assert [made.test.classes[label] for label in made.test.labels] == list(names[1:])  # type: ignore[union-attr]


def test_a_test_split_with_a_class_of_its_own_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "train", label_samples(6, 2))
    write_shards(tmp_path / "test", label_samples(6, 3))
    with pytest.raises(DataError, match="1 classes that the training split lacks, first 2"):
        task(Store(tmp_path / "cache"), str(tmp_path / "train"), test_root=str(tmp_path / "test"))


JPEG = draw_jpeg(0)


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ({"jpg": JPEG[:-99], "cls": b"1"}, r"1 image\(s\) cannot be .* first .*shard-001\.tar: 000013\.jpg \(.*trunc"),
        ({"jpg": b"no image", "cls": b"1"}, r"first .*shard-001\.tar: 000013\.jpg \(UnidentifiedImageError"),
        ({"cls": b"1"}, r"first .*shard-001\.tar: 000013 \(it has no image, but cls\)"),
        ({"jpg": JPEG, "png": JPEG, "cls": b"1"}, r"000013 \(it has 2 images: choose one, query\.image=jpg"),
        ({"jpg": JPEG}, r"000013 \(it has no label \.cls, but jpg: data\.label names"),
        ({"jpg": JPEG, "cls": b"-1"}, r"000013 \(its label is -1\)"),
        ({"jpg": JPEG, "cls": b"\xff"}, r"000013 \(its label \.cls cannot be read"),
        ({"jpg": JPEG, "cls": b" "}, r"000013 \(its label ' ' is neither a whole number nor a name"),
    ],
    ids=["truncated", "no image", "without an image", "two images", "no label", "-1", "no text", "blank"],
)  # fmt: skip
def test_a_broken_member_is_named_or_passed_over(
    member: dict[str, bytes], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = label_samples(20, 2)
    samples[13] = member
    write_shards(tmp_path / "s", samples)
    with pytest.raises(DataError, match=f"{says}.*(Mend|Replace).*broken=skip"):
        task(Store(tmp_path / "cache"), str(tmp_path / "s"), size=SIZE)
    made = task(Store(tmp_path / "cache"), str(tmp_path / "s"), size=SIZE, broken="skip")
    assert len(made.train) + len(made.test) == 19 and "passed over" in caplog.text


def test_a_cut_shard_is_named_before_any_job_or_used_as_far_as_it_goes(tmp_path: Path) -> None:
    (_, second) = write_shards(tmp_path / "s", label_samples(20))
    with second.open("rb") as stream:
        members = list(webdataset.list_members(stream))
    os.truncate(second, members[8].start + 100)
    cfg = composed("query=webdataset", f"query.root={tmp_path / 's'}")
    with pytest.raises(
        DataError, match=r"2 archives .*first .*shard-001\.tar \(it is cut off within its member 000014\.jpg"
    ):
        require_available(cfg.query, Store(tmp_path / "cache"))
    assert (
        len(pool(Store(tmp_path / "cache"), str(tmp_path / "s"), size=SIZE, broken="skip")) == 13
    )  # all before its sample


def test_what_is_no_shard_is_named(shards: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    (tmp_path / "outer" / "train").mkdir(parents=True)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "a.tar.gz").touch()
    write_tar(tmp_path / "text.tar", [("a.txt", b"x")])
    write_tar(tmp_path / "void.tar", [])
    (tmp_path / "none.tar").write_bytes(b"no archive" * 100)
    for root, says in (
        ("absent", r"There is no .*absent\. Give a folder of shards"),
        ("outer", r"holds no shards \(\.tar\)\. It holds the folders train: give one of these"),
        ("packed", r"a\.tar\.gz is compressed: decompress it"),
        ("*.shard", r"No shard is called"),
        ("text.tar", r"text\.tar: a \(it has no image, but txt\)"),
        ("void.tar", r"void\.tar: it holds no image"),
        ("none.tar", r"none\.tar \(it is no tar archive"),
    ):
        with pytest.raises(DataError, match=says):
            pool(store, str(tmp_path / root))
    with pytest.raises(DataError, match=r"2 of the 6 shards of .* do not exist, first .*shard-004\.tar"):
        pool(store, f"{shards}/shard-{{000..005}}.tar")


def test_its_configs_make_it(shards: Path, tmp_path: Path) -> None:
    cfg = composed(
        "data=webdataset", f"data.root={shards}", "query=webdataset", f"query.root={shards}", "query.count=5"
    )
    made = build.make(cfg.data, store=Store(tmp_path))
    assert len(made.train) == 32 and len(build.make(cfg.query, store=Store(tmp_path), task=made)) == 5


def test_shards_count_in_a_key_by_names_and_sizes(shards: Path, tmp_path: Path) -> None:
    def key(root: object) -> str:
        return hash_now(f"query=webdataset query.root='{root}'")

    known = key(shards)
    assert key(f"{shards}/*.tar") == known == key(f"{shards}/shard-{{000..003}}.tar")
    assert key(f"{shards}/shard-{{000..002}}.tar") != known
    write_shards(tmp_path / "elsewhere", [{"jpg": b"x", "cls": b"1"}])
    assert key(tmp_path / "elsewhere") != known
    for shard in shards.iterdir():
        (tmp_path / "elsewhere" / shard.name).write_bytes(shard.read_bytes())
    assert key(tmp_path / "elsewhere") == known


def test_other_names_of_classes_are_other_images_of_the_store(shards: Path, tmp_path: Path) -> None:
    made = [
        task(Store(tmp_path), str(shards), size=SIZE, classes=names, train_count=4, rest_count=0, test_count=4)
        for names in (None, list("abcd"))
    ]
    assert [tuple(each.train.classes) for each in made] == [tuple("0123"), tuple("abcd")]
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    assert task(Store(tmp_path), str(shards), size=SIZE, classes=str(tmp_path / "names.txt")).num_classes == 4
    for names, says in ((["a"], "has 1 names, but the labels run to 3"), (list("aabc"), "twice"), ("gone", "no file")):
        with pytest.raises(DataError, match=says):
            task(Store(tmp_path), str(shards), size=SIZE, classes=names)
