"""Missing data sets: found once, before any job of a sweep, and before a single job pays; all are listed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config.schema import Stage
from fmsteal.data.available import require_available
from fmsteal.data.torchvision_sets import look_for_pool, pool
from fmsteal.sweep.available import require_data
from tests.support.commands import Run
from tests.support.composing import SMALL, composed
from tests.support.idx import idx

OOD = ("evaluation=ood", "evaluation.also.ood.corruptions=[]", "+data@evaluation.also.ood.sets.birds=image_folder")
MISSING = (*OOD, "evaluation.also.ood.sets.birds.root=nests", "query=image_folder", "query.root=photos")


def test_a_sweep_lists_all_that_is_missing_and_runs_nothing(fmsteal: Run, tmp_path: Path) -> None:
    words = (*SMALL, *MISSING, "data=image_folder", "data.root=zoo", "budget.queries=4,8", "sweep_id=s")
    said = fmsteal("-m", *words, ok=False).stderr
    assert "3 data sets are not available:" in said and said.rstrip().count("There is no image folder") == 3
    for key, root in (("data", "zoo"), ("query", "photos"), ("evaluation.also.ood.sets.birds", "nests")):
        assert f"{key}: There is no image folder {root}." in said
    assert "No job was run." in said and "Traceback" not in said
    assert not list(tmp_path.rglob("failure.json")) and not list(tmp_path.glob("outputs/cache/*"))
    fmsteal("-m", *words, "dry_run=true")


def test_a_single_job_finds_a_missing_set_of_its_evaluation_before_it_pays(fmsteal: Run, tmp_path: Path) -> None:
    said = fmsteal(*SMALL, *MISSING[:-2], ok=False).stderr
    assert "There is no image folder nests" in said
    assert not list(tmp_path.rglob("ledger*")) and not list(tmp_path.glob("outputs/cache/victims/*"))


def test_each_set_is_looked_at_once_and_victims_need_the_data_alone(tmp_path: Path) -> None:
    jobs = [composed(*SMALL, *MISSING, f"seed={seed}", f"cache={tmp_path / 'cache'}") for seed in range(2)]
    with pytest.raises(DataError) as caught:
        require_data(jobs, Stage.all)
    assert str(caught.value).startswith("2 data sets are not available:") and str(caught.value).count("photos") == 1
    require_data(jobs, Stage.victims)
    for name in ("photos", "nests/a", "nests/b"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    here = (f"evaluation.also.ood.sets.birds.root={tmp_path / 'nests'}", f"query.root={tmp_path / 'photos'}")
    require_data([composed(*SMALL, *MISSING, *here, f"cache={tmp_path / 'cache'}")], Stage.all)
    assert not (tmp_path / "cache").exists(), "nothing is decoded"


def test_what_torchvision_reads_is_looked_for_where_it_is_not_decoded(tmp_path: Path) -> None:
    raw, store, split = tmp_path / "data" / "FashionMNIST" / "raw", Store(tmp_path / "cache"), {"train": True}
    for name in ("train", "t10k"):
        idx(raw / f"{name}-images-idx3-ubyte", np.zeros((5, 28, 28)))
        idx(raw / f"{name}-labels-idx1-ubyte", np.zeros(5))
    named = ("FashionMNIST", str(tmp_path / "data"))
    look_for_pool(store, *named, split=split, download=False)
    pool(store, *named, split=split, download=False)
    shutil.rmtree(tmp_path / "data")
    look_for_pool(store, *named, split=split, download=False)  # decoded: the files are not needed
    with pytest.raises(DataError, match="FashionMNIST is not under"):
        look_for_pool(store, *named, split={"train": False}, download=False)
    cfg = composed("data=cifar10", f"data.root={tmp_path / 'none'}", "data.download=false")
    with pytest.raises(DataError, match=r"CIFAR10 is not under .*none"):
        require_available(cfg.data, store)
    require_available(composed("query=noise").query, store)


def test_lists_of_authors_are_looked_for(tmp_path: Path) -> None:
    for name, said in (("cub200", "There is no .*images.txt"), ("indoor67", "There is no .*TrainImages.txt")):
        with pytest.raises(DataError, match=said):
            require_available(composed(f"data={name}", f"data.root={tmp_path}").data, Store(tmp_path / "cache"))
