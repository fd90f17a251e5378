"""Query sets made of tasks, and of nothing: same, task, noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data import noise
from fmsteal.data.digits import digits
from fmsteal.data.images import Images, Task
from tests.support.commands import Run
from tests.support.composing import SMALL, composed
from tests.support.outputs import only_run


def made(folder: Path, *overrides: str) -> tuple[Task, Images]:
    cfg, store = composed(*overrides), Store(folder)
    build.check(cfg)
    task = build.make(cfg.data, store=store)
    return task, build.make(cfg.query, store=store, task=task)


def contents(images: Images) -> set[bytes]:
    return set(images.image_digests(np.arange(len(images))))


def test_same_is_what_the_victims_training_left_out(tmp_path: Path) -> None:
    task, pool = made(tmp_path, "query=same", "data.train_count=600")
    assert (len(task.train), len(pool)) == (600, 597) and pool.labels is None and not pool.classes
    assert not contents(pool) & (contents(task.train) | contents(task.test))
    assert contents(pool) | contents(task.train) == contents(digits().train)
    assert len(made(tmp_path, "query=same", "data.train_count=600", "query.count=100")[1]) == 100
    with pytest.raises(DataError, match="598 images are asked for of 597"):
        made(tmp_path, "query=same", "data.train_count=600", "query.count=598")
    with pytest.raises(DataError, match="1198 images are asked for of 1197"):
        made(tmp_path, "query=same", "data.train_count=1198")


@pytest.mark.parametrize("overrides", [[], ["data.train_count=1197"]])
def test_same_needs_images_that_are_left_out(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it sees them all. Leave some out: data\.train_count=N"):
        made(tmp_path, "query=same", *overrides)


def test_a_task_is_a_query_set_split_by_split(tmp_path: Path) -> None:
    own = digits(size=16, seed=5)
    for split in ("train", "test"):
        task, pool = made(
            tmp_path,
            "query=task",
            "data@query.of=digits",
            "query.of.size=16",
            "query.of.seed=5",
            f"query.split={split}",
        )
        assert pool.labels is None and contents(pool) == contents(getattr(own, split))
        assert task.train.pixels.shape[-1] == 32, "the victim's own task is another"
    assert len(made(tmp_path, "query=task", "query.count=50")[1]) == 50
    with pytest.raises(DataError, match="601 images are asked for of 600"):
        made(tmp_path, "query=task", "query.split=test", "query.count=601")
    with pytest.raises(ConfigError, match=r"query\.split='rest' does not fit"):
        made(tmp_path, "query=task", "query.split=rest")
    with pytest.raises(ConfigError, match=r"query\.of\.sise"):
        made(tmp_path, "query=task", "+query.of.sise=16")


def test_any_folder_can_be_asked_about_by_its_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no image folder nowhere"):
        made(tmp_path, "query=task", "data@query.of=image_folder", "query.of.root=nowhere")
    with pytest.raises(ConfigError, match=r"query\.of\.root must be given"):
        made(tmp_path, "query=task", "data@query.of=image_folder")


def test_noise_is_uniform_nested_and_kept(tmp_path: Path) -> None:
    _, pool = made(tmp_path, "query=noise", "query.count=200", "query.size=16")
    assert pool.pixels.shape == (200, 3, 16, 16) and isinstance(pool.pixels, np.memmap) and pool.labels is None
    counts = np.bincount(np.asarray(pool.pixels).ravel(), minlength=256)
    assert counts.min() > 0.8 * pool.pixels.size / 256 and counts.max() < 1.2 * pool.pixels.size / 256
    assert abs(np.corrcoef(pool.pixels[:, 0, 0, 0], pool.pixels[:, 0, 0, 1])[0, 1]) < 0.3
    np.testing.assert_array_equal(noise.render(31, 0, 16), pool.pixels[:31])
    assert made(tmp_path, "query=noise", "query.count=200", "query.size=16")[1].digest == pool.digest
    assert made(tmp_path, "query=noise", "query.count=200", "query.size=16", "query.seed=1")[1].digest != pool.digest
    with pytest.raises(ConfigError, match=r"query\.count and query\.size must be at least 1"):
        made(tmp_path, "query=noise", "query.count=0")


def test_a_job_asks_about_the_victims_own_distribution(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(*SMALL, "query=same", "data.train_count=600", "overlap=refuse")
    result = json.loads((only_run(tmp_path) / "result.json").read_text())
    assert result["axis"]["query"] == "same" and result["cost"]["cost/queries"] == 100
    assert "same" in done.stdout
