"""Defenses that do not go with a job: each is named, and nothing is paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError, DefenseError, FmstealError
from fmsteal.defenses.base import RowDefense
from fmsteal.oracle.guard import Ask
from tests.job.jobs import run_job, thefts

HERE = "tests.job.test_bad_defenses"


class Wider(RowDefense):
    """Adds a column of zeros."""

    def width(self, victim: int) -> int:
        return victim + 1

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        return answers.new_zeros(len(answers), answers.shape[1] + 1).index_copy_(
            1, answers.new_tensor(range(answers.shape[1])).long(), answers
        )


class Broken(RowDefense):
    """Answers NaN."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        return answers * float("nan")


def two(first: str, second: str) -> tuple[str, ...]:
    """A chain of two."""
    return "defense=chain", f"+defense@defense.of.a={first}", f"+defense@defense.of.b={second}"


BAD: dict[str, tuple[tuple[str, ...], type[FmstealError], str]] = {
    "rows that do not sum to 1": (two("rounding", "mad"), DefenseError, r"MAD perturbs probabilities, but \d+ of"),
    "NaN": ((f"defense={{_target_: {HERE}.Broken}}",), DefenseError, r"Broken answered 100 of 100 .* with NaN"),
    "embeddings": (("defense=feature_noise",), ConfigError, r"defense \(.*FeatureNoise\) is made for embeddings"),
    "widths": (
        (
            "defense=chain", f"+defense.of.a={{_target_: {HERE}.Wider}}",
            "+defense@defense.of.b=adaptive_misinformation",
        ),
        DataError, r"AdaptiveMisinformation trains a network on 10 classes, but the victim's answers have 11",
    ),
    "no place in a chain": (two("top_k", "misleader"), ConfigError, r"defense\.of\.b .*answers by networks"),
    "a surrogate that fits otherwise": (
        ("defense=ensemble", "defense.net.adaptation=probe", "defense.net.recipe.solver=convex"),
        ConfigError, r"Ensemble trains its networks .* defense\.net\.recipe\.solver=steps",
    ),
    "a trunk that is not frozen": (
        ("defense=unprobeable", "defense.outliers.images.count=9", "victim=resnet10t", "recipes.scratch.epochs=1"),
        ConfigError, r"Unprobeable trains another head on the victim's frozen pretrained trunk",
    ),
    "outliers that are none": (
        (
            "defense=ensemble", "query@defense.outliers.images=image_folder",
            "defense.outliers.images.root=/nowhere/at/all",
        ),
        DataError, "/nowhere/at/all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_paid(name: str, cache: Path, tmp_path: Path) -> None:
    words, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        run_job(tmp_path, f"cache={cache}", *words)
    found = thefts(tmp_path) if (tmp_path / "thefts").is_dir() else []
    ledgers = [tmp_path / "thefts" / theft / "ledger.bin" for theft in found]
    assert not [file for file in ledgers if file.is_file() and file.read_bytes().partition(b"\n")[2]]
