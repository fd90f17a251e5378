"""Real photographs, where there are some: FMSTEAL_DATA names a folder with ``cifar10/{train,test}/<class>`` and
``tiny_imagenet/<wnid>``. Run with ``FMSTEAL_DATA=/path pytest -m data``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.outputs import only_run

pytestmark = pytest.mark.data
DATA = Path(os.environ.get("FMSTEAL_DATA", "/nowhere"))


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="FMSTEAL_DATA names no folder with cifar10")
def test_a_cifar_victim_is_stolen_with_photographs_of_other_things(fmsteal: Run, tmp_path: Path) -> None:
    for split, count in (("train", 100), ("test", 40)):
        for folder in sorted((DATA / "cifar10" / split).iterdir()):
            (tmp_path / "cifar" / split / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                shutil.copy(file, tmp_path / "cifar" / split / folder.name)
    fmsteal(
        "data=image_folder", "data.root=cifar", "query=image_folder", f"query.root={DATA / 'tiny_imagenet'}",
        "query.count=1000", "query.size=64", "budget=1k", "tracker=none",
    )  # fmt: skip
    metrics = json.loads((only_run(tmp_path) / "result.json").read_text())["metrics"]
    assert metrics["test/victim_accuracy"] > 0.5  # ten classes: chance is .1
    assert metrics["test/agreement"] > 0.5
