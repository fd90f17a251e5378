"""The numbers of images that a plan counts with are those of the data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.sweep.sizes import find_classes, find_pool_size, find_task_size
from tests.support.composing import composed


def test_digits_and_generated_pools_are_counted_as_they_are_made(tmp_path: Path) -> None:
    cfg = composed("data.train_count=900", "query=noise", "query.count=30")
    task = build.make(cfg.data, store=Store(tmp_path))
    assert find_task_size(OmegaConf.to_container(cfg.data, resolve=True)) == (len(task.train), len(task.test), 32)  # type: ignore[arg-type]
    assert find_pool_size(OmegaConf.to_container(cfg.query, resolve=True)) == (30, 32)  # type: ignore[arg-type]


def test_a_folder_is_counted(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    folder = {"_target_": "fmsteal.data.image_folder.task", "root": str(tmp_path), "size": 16, "test_share": 0.25}
    assert find_task_size(folder) == (3, 1, 16) and find_classes(folder) == 2
    assert find_pool_size({**folder, "_target_": "fmsteal.data.image_folder.pool"}) == (4, 16)
    absent = {**folder, "root": str(tmp_path / "absent")}
    assert find_task_size(absent) is None and find_classes(absent) is None


@pytest.mark.parametrize(
    ("choice", "size", "classes"),
    [
        ("cifar10", (50_000, 10_000, 32), 10),
        ("stl10_all", (105_000, 8_000, 96), 10),
        ("eurosat", (21_600, 5_400, 64), 10),
        ("caltech256", (23_380, 6_400, 224), 256),
        ("cub200", (5_994, 5_794, 224), 200),
    ],
)
def test_published_sets_are_known(choice: str, size: tuple[int, int, int], classes: int) -> None:
    node = (
        composed(f"data={choice}", "data.root=/none", "query=same").data
        if choice == "cub200"
        else composed(f"data={choice}", "query=same").data
    )
    found = OmegaConf.to_container(node, resolve=True)
    assert find_task_size(found) == size and find_classes(found) == classes  # type: ignore[arg-type]


def test_what_only_opening_it_would_tell_is_unknown() -> None:
    assert find_task_size({"_target_": "theirs.task", "size": 32}) is None
    assert find_classes({"_target_": "theirs.task", "dataset": "CIFAR10"}) is None
    assert find_pool_size({"_target_": "theirs.pool"}) is None
    assert find_pool_size({"_target_": "theirs.pool", "count": 12, "size": 8}) == (12, 8)
