"""``fmsteal cache``: after the most that it prunes, finished jobs are whole, and a sweep makes only that again."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
import torch

import fmsteal as face
from fmsteal.report.commands import cache
from tests.support.commands import Run
from tests.support.composing import SMALL

SWEEP = ("-m", *SMALL, "victim.seed=0", "sweep_id=s")
MONTHS = time.time() - 60 * 86400


def artifacts(root: Path) -> dict[str, int]:
    """The artifacts of the cache by kind and name, each with the inode of its folder."""
    places = (
        p for kind in ("victims", "answers", "images", "features") for p in (root / "outputs/cache").glob(f"{kind}/*")
    )
    return {place.relative_to(root / "outputs/cache").as_posix(): place.stat().st_ino for place in places}


@pytest.mark.slow
def test_a_pruned_cache_costs_nothing_but_what_was_pruned(
    fmsteal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fmsteal(*SWEEP, "seed=0,1")
    fmsteal(*SWEEP[:-2], "victim.seed=7", "sweep_id=other", "stage=victims")
    for place in (tmp_path / "outputs/cache").rglob("*"):
        os.utime(place, (MONTHS, MONTHS))
    before, results = artifacts(tmp_path), sorted(tmp_path.glob("outputs/sweeps/s/*/result.json"))
    written = [file.stat().st_mtime_ns for file in results]
    listed = fmsteal("cache").stdout
    assert "2 thefts" in listed and "60 d ago" in listed and "a theft names it" in listed
    said = fmsteal("cache", "--prune", "--older-than", "30d").stdout
    assert "would be removed" in said and "--older-than 30d --yes" in said and artifacts(tmp_path) == before
    fmsteal("cache", "--prune", "--older-than", "30d", "--yes")
    (left,) = artifacts(tmp_path)
    assert left.startswith("victims/")

    assert "all 2 results are what their predictions say" in fmsteal("verify", "outputs/sweeps/s").stdout
    monkeypatch.chdir(tmp_path)
    job = face.load(results[0].parent)
    images = torch.zeros(2, 3, 32, 32)
    assert job.thief(images).shape == job.victim(images).shape == (2, 10)

    assert "2 are finished already" in fmsteal(*SWEEP, "seed=0,1,2").stdout
    again = artifacts(tmp_path)
    assert again[left] == before[left], "the victim is the one that was stolen from"
    assert again.keys() <= before.keys() and len(again) > 1
    assert [file.stat().st_mtime_ns for file in results] == written


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prune"], "How long must an artifact be unused to be pruned"),
        (["--older-than", "30d"], "are for --prune: add it"),
        (["--yes"], "are for --prune: add it"),
        (["--prune", "--older-than", "30"], "'30' is no age: a number of hours, days or weeks, as 12h, 30d, 8w"),
        (["--prune", "--older-than", "1d", "--kind", "victim"], "The cache holds no victim. It holds: nothing."),
        (["--forget", "."], "is there, and its thefts count"),
        (["--forget", "gone"], "has used"),
    ],
)
def test_nonsense_is_refused(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs/cache/temporary").mkdir(parents=True)
    with pytest.raises(SystemExit) as refused:
        cache.main(["cache", *words])
    assert says in f"{refused.value}{capsys.readouterr().err}"


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=re.escape(f"There is no cache {tmp_path / 'none'}")):
        cache.main(["cache", str(tmp_path / "none")])
