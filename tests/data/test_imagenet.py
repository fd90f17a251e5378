"""ImageNet's archives in small, in the form of the originals: a tar of tars, a tar, and the development kit."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data import image_folder
from fmsteal.data.available import require_available
from fmsteal.data.imagenet import ARCHIVES, DEVKIT, pool, task
from fmsteal.data.images import Images
from tests.support.composing import composed, hash_now
from tests.support.shards import draw_jpeg, write_tar

IDS = ("n01440764", "n01443537", "n02012849")  # classes; their ILSVRC2012_IDs are in another order
NUMBER = {"n01440764": 2, "n01443537": 3, "n02012849": 1, "n00001740": 4}  # the last is no class, but a parent
EACH, SIZE = 6, 24
TRUTH = [1, 3, 2, 2, 1]


def train_images() -> dict[str, bytes]:
    return {f"{name}_{at}.JPEG": draw_jpeg(EACH * k + at, (50, 40)) for k, name in enumerate(IDS) for at in range(EACH)}


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    root, images = tmp_path / "archives", train_images()
    classes = []
    for name in (IDS[1], IDS[0], IDS[2]):
        inner = write_tar(tmp_path / "inner.tar", [(k, v) for k, v in images.items() if k.startswith(name)])
        classes.append((f"{name}.tar", inner.read_bytes()))
    write_tar(root / ARCHIVES["train"], classes)
    shown = [(f"ILSVRC2012_val_{at + 1:08d}.JPEG", draw_jpeg(100 + at)) for at in range(len(TRUTH))]
    write_tar(root / ARCHIVES["val"], shown[::-1])
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "f8")]
    synsets = np.array([(number, name, "a, b", "", 0) for name, number in NUMBER.items()], dtype=kinds)
    stream = BytesIO()
    scipy.io.savemat(stream, {"synsets": synsets.reshape(-1, 1)})
    folder = DEVKIT.removesuffix(".tar.gz")
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        for name, content in (
            ("meta.mat", stream.getvalue()),
            ("ILSVRC2012_validation_ground_truth.txt", "".join(f"{number}\n" for number in TRUTH).encode()),
        ):
            info = tarfile.TarInfo(f"{folder}/data/{name}")
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return root


def unpacked(tmp_path: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """The same files decoded from a folder, by name."""
    for name, content in files.items():
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / name).write_bytes(content)
    pixels = image_folder.pool(Store(tmp_path / "other"), str(tmp_path / "plain"), size=SIZE).pixels
    return {name: image.tobytes() for name, image in zip(sorted(files), pixels, strict=True)}


def holds(images: Images) -> set[tuple[str, bytes]]:
    assert images.labels is not None
    return {(images.classes[k], image.tobytes()) for k, image in zip(images.labels, images.pixels, strict=True)}


def test_the_training_archive_is_a_pool_and_stays_packed(archives: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*.*"))
    images = pool(Store(tmp_path / "cache"), str(archives), size=SIZE)
    assert [file for file in sorted(tmp_path.rglob("*.*")) if "cache" not in file.parts] == before
    known = unpacked(tmp_path, train_images())
    assert images.labels is None and sorted(i.tobytes() for i in images.pixels) == sorted(known.values())
    some = pool(Store(tmp_path / "cache"), str(archives), size=SIZE, count=5, seed=3)
    ids = np.sort(np.random.default_rng(3).permutation(len(images))[:5])
    np.testing.assert_array_equal(some.pixels, images.pixels[ids])
    assert len(pool(Store(tmp_path / "cache"), str(archives), size=SIZE, split="val")) == len(TRUTH)
    with pytest.raises(DataError, match="19 images are asked for of 18"):
        pool(Store(tmp_path / "cache"), str(archives), count=19)


def test_classes_are_wordnet_ids_and_the_ground_truth_is_the_development_kits(archives: Path, tmp_path: Path) -> None:
    cfg = composed("data=imagenet", f"data.root={archives}", f"data.size={SIZE}")
    made = build.make(cfg.data, store=Store(tmp_path / "cache"))
    assert tuple(made.train.classes) == IDS == tuple(made.test.classes) and made.rest is None
    known = unpacked(tmp_path, train_images())
    assert holds(made.train) == {(name.partition("_")[0], pixels) for name, pixels in known.items()}
    name = {number: name for name, number in NUMBER.items()}
    assert [made.test.classes[k] for k in made.test.labels] == [name[k] for k in TRUTH[::-1]]


def test_of_a_count_nothing_else_is_read(archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *where: read.append(where) or real(*where))
    made = task(Store(tmp_path / "cache"), str(archives), size=SIZE, train_count=6, test_count=3)
    assert len(read) == 9 and np.bincount(made.train.labels).tolist() == [2, 2, 2]  # type: ignore[arg-type]


def test_a_damaged_class_is_named_or_passed_over(archives: Path, tmp_path: Path) -> None:
    file = archives / ARCHIVES["train"]
    raw = bytearray(file.read_bytes())
    at = raw.index(b"n01440764_3.JPEG")
    raw[at + 100] ^= 255
    file.write_bytes(raw)
    cfg = composed("query=imagenet", f"query.root={archives}")
    with pytest.raises(
        DataError, match=r"1 fault\(s\), first .*train\.tar: n01440764\.tar \(it is damaged at byte \d+"
    ):
        require_available(cfg.query, Store(tmp_path / "cache"))
    assert len(pool(Store(tmp_path / "cache"), str(archives), size=SIZE, broken="skip")) == 2 * EACH + 3


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", [("n1_0.JPEG", draw_jpeg(0)), ("n1_1.JPEG", draw_jpeg(1)[:-99])])
    write_tar(tmp_path / ARCHIVES["train"], [("n1.tar", inner.read_bytes())])
    with pytest.raises(DataError, match=r"1 image\(s\) cannot be decoded, first .*train\.tar: n1_1\.JPEG \(OSError"):
        pool(Store(tmp_path / "cache"), str(tmp_path))


def test_what_is_missing_is_named_with_the_way_round(archives: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    (archives / DEVKIT).rename(archives / "away")
    with pytest.raises(DataError, match=rf"There is no .*{DEVKIT}\. ImageNet's archives are downloaded"):
        task(store, str(archives))
    (archives / DEVKIT).write_bytes(b"no archive")
    with pytest.raises(DataError, match="is not ImageNet's development kit"):
        task(store, str(archives))
    (tmp_path / "unpacked" / "train" / IDS[0]).mkdir(parents=True)
    with pytest.raises(DataError, match=r"query=image_folder query\.root=.*unpacked/train \(data=image_folder\)"):
        pool(store, str(tmp_path / "unpacked"))


def test_it_counts_by_name_wherever_it_is(archives: Path) -> None:
    assert hash_now(f"query=imagenet query.root={archives}") == hash_now("query=imagenet query.root=/elsewhere")
