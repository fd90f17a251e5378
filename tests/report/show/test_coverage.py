"""A table says what its intervals cover: seeds, test images, and what all seeds have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmsteal.base.store import read_json, write_json
from fmsteal.evaluation import metrics
from fmsteal.report.read.interval import SeedFigure, share_interval
from fmsteal.report.read.study import Study
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.tables import Table
from tests.support.job_folders import done

SHARES = (0.80, 0.84, 0.85)
LEFT_OUT = "They leave out the data split and the pool: one for all seeds (vary=all varies them)."


def judged(folder: Path, seed: int, share: float, test: str, settings: dict[str, Any], **columns: Any) -> None:
    """A job whose agreement is a share of 500 images."""
    name = f"{'-'.join(columns.values())}-{seed}"
    done(folder, name, share, {"victim.seed": -1, **settings}, seed=seed, **columns)
    file = folder / name / "result.json"
    own = {"test/agreement": list(metrics.wilson(share, 500))}
    write_json(file, {**read_json(file), "intervals": own, "inputs": {"test images": test}})


def notes(folder: Path) -> tuple[Study, list[str]]:
    study = Study.of([folder])
    return study, list(Table.of(study, Layout.of(study)).notes)


def test_seeds_that_share_their_test_images_have_no_narrower_intervals_than_seeds_with_their_own(
    tmp_path: Path,
) -> None:
    varied = {"data.seed": -1, "query.seed": -1}
    for seed, share in enumerate(SHARES):
        judged(tmp_path / "thief", seed, share, "the same", {}, attack="a")
        judged(tmp_path / "all", seed, share, f"of {seed}", varied, attack="a")
    intervals = []
    for name, tests, left_out in (("thief", ["s"] * 3, True), ("all", ["0", "1", "2"], False)):
        study, said = notes(tmp_path / name)
        figure = study.cells[0].figure("test/agreement")
        want = share_interval([SeedFigure(v, 500, t) for v, t in zip(SHARES, tests, strict=True)])
        assert figure and figure.interval == pytest.approx(want) and figure.covers == "seeds and test images"
        assert "95 % intervals cover seeds and test images, on the logit scale." in said
        assert (LEFT_OUT in said) is left_out
        intervals.append(figure.interval)
    (low, high), (own_low, own_high) = intervals
    assert low <= own_low < own_high <= high


def test_different_kinds_of_intervals_are_counted(tmp_path: Path) -> None:
    for seed, share in enumerate(SHARES):
        judged(tmp_path, seed, share, "t", {}, attack="spread")
        judged(tmp_path, seed, 0.9, "t", {}, attack="alike")
        done(tmp_path, f"bare-{seed}", share, {"victim.seed": -1}, seed=seed, attack="bare")
    study, said = notes(tmp_path)
    by_attack = {cell.values["attack"]: cell.figure("test/agreement") for cell in study.cells}
    assert {name: figure and figure.covers for name, figure in by_attack.items()} == {
        "alike": "test images", "bare": "seeds", "spread": "seeds and test images",
    }  # fmt: skip
    assert by_attack["alike"].interval == pytest.approx(metrics.wilson(0.9, 500))  # type: ignore[union-attr]
    (line,) = [note for note in said if note.startswith("Of 3 95 % intervals, ")]
    assert "1 covers seeds alone (Student's t)" in line and "1 covers test images alone" in line
    assert LEFT_OUT in said


def test_results_that_do_not_say_what_varies_are_not_said_to_leave_anything_out(tmp_path: Path) -> None:
    for seed, share in enumerate(SHARES):
        done(tmp_path, f"j{seed}", share, seed=seed)
    assert not any("leave out" in note for note in notes(tmp_path)[1])
