from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmsteal.base.metric import record
from fmsteal.base.store import write_json
from fmsteal.evaluation import metrics
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.report.checks import figures
from fmsteal.report.commands import verify
from tests.support.job_folders import CLASSES, N, begun, evaluated

HARD = ("kappa", "agreement_victim_wrong", "agreement_least_sure")


def changed(folder: Path, part: str, **figures: Any) -> None:
    result = json.loads((folder / "result.json").read_text())
    result[part] |= {name.replace("__", "@").replace("_of_", "/"): value for name, value in figures.items()}
    (folder / "result.json").write_text(json.dumps(result))


def rewritten(folder: Path, **arrays: Any) -> None:
    with np.load(folder / "predictions.npz") as kept:
        old = dict(kept)
    np.savez(folder / "predictions.npz", **{k: v for k, v in {**old, **arrays}.items() if v is not None})


def faults(folder: Path) -> str:
    from fmsteal.records.results import read_job

    return "; ".join(verify.verify(read_job(folder)).faults)


def status(sweep: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        verify.main(["verify", str(sweep)])
    return ended.value.code  # type: ignore[return-value]


def test_what_the_evaluation_finds_is_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        evaluated(tmp_path, f"j{seed}", seed)
    assert status(tmp_path) == 0
    said = capsys.readouterr().out
    for name in ("agreement", "agreement@3", "accuracy", "victim_accuracy", "relative_accuracy", "kl", "l1", *HARD):
        assert f"test/{name} " in said
    assert "all 3 results" in said


@pytest.mark.parametrize("name", ["agreement", "agreement__3", "accuracy", "victim_accuracy", "kl", "l1", *HARD])
def test_a_figure_that_was_touched_is_named(tmp_path: Path, name: str) -> None:
    folder = evaluated(tmp_path)
    metric = f"test/{name.replace('__', '@')}"
    value = json.loads((folder / "result.json").read_text())["metrics"][metric]
    changed(folder, "metrics", **{f"test_of_{name}": value + 1e-5})
    assert faults(folder).startswith(f"{metric} is ")
    assert status(tmp_path) == 1


@pytest.mark.parametrize("name", ["agreement", "agreement_original", "victim_accuracy", "agreement_victim_wrong"])
def test_a_figure_of_a_victim_that_was_replaced_is_checked_against_the_right_model(tmp_path: Path, name: str) -> None:
    folder = evaluated(tmp_path, replaced=True)
    assert not faults(folder)
    value = json.loads((folder / "result.json").read_text())["metrics"][f"test/{name}"]
    changed(folder, "metrics", **{f"test_of_{name}": value + 1e-5})
    assert faults(folder).startswith(f"test/{name} is ")


def test_what_a_replaced_victim_has_kept_fits_together(tmp_path: Path) -> None:
    folder = evaluated(tmp_path, replaced=True)
    with np.load(folder / "predictions.npz") as kept:
        original = kept["original"]
    rewritten(folder, original=original[:-1])
    assert f"{N} answers of the victim, {N - 1} of the one it replaces" in faults(folder)
    rewritten(folder, original=(original + 1) % CLASSES)
    assert "the original's answers are not those of its logits" in faults(folder)


@pytest.mark.parametrize("value", [float("nan"), None, "0.5"])
def test_a_figure_that_is_no_number_is_wrong(tmp_path: Path, value: object) -> None:
    folder = evaluated(tmp_path)
    changed(folder, "metrics", test_of_agreement=value)
    assert "test/agreement" in faults(folder)


def test_predictions_that_do_not_fit_are_wrong(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    with np.load(folder / "predictions.npz") as kept:
        whole = dict(kept)
    rewritten(folder, label=whole["label"][:-1])
    assert f"{N} answers of the victim, {N} of the thief, {N - 1} labels" in faults(folder)
    rewritten(folder, label=whole["label"], thief=(whole["thief"] + 1) % CLASSES)
    assert "the thief's answers are not those of its logits" in faults(folder)
    rewritten(folder, thief=whole["thief"], thief_logits=whole["thief_logits"] * np.nan)
    assert "not finite" in faults(folder)
    rewritten(folder, thief_logits=whole["thief_logits"][:, :-1])
    assert "logits of" in faults(folder)
    rewritten(folder, victim=None)
    assert "holds no predictions" in faults(folder)


def test_a_part_of_the_images_is_noticed_by_the_interval(tmp_path: Path) -> None:
    """Even where every share stays what it was."""
    folder = evaluated(tmp_path)
    with np.load(folder / "predictions.npz") as kept:
        rewritten(folder, **{name: np.concatenate([rows, rows]) for name, rows in dict(kept).items()})
    assert "that of another number of images" in faults(folder)


def test_torn_and_missing_files_are_faults_and_jobs_without_a_result_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluated(tmp_path, "torn")
    file = folder / "predictions.npz"
    file.write_bytes(file.read_bytes()[:-300])
    assert "predictions.npz cannot be read" in faults(folder)
    (evaluated(tmp_path, "gone") / "predictions.npz").unlink()
    assert faults(tmp_path / "gone") == "There is no predictions.npz."
    (begun(tmp_path, "half") / "result.json").write_text('{"metr')
    write_json(begun(tmp_path, "failed") / "failure.json", {"job_key": "failed", "error": "E: x"})
    begun(tmp_path, "going")
    evaluated(tmp_path, "good")
    assert status(tmp_path) == 1
    said = capsys.readouterr().out
    assert "3 of 4 jobs are wrong" in said and "half-written" in said and "2 jobs that were begun" in said


def test_damage_inside_the_file_is_a_fault(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    file = folder / "predictions.npz"
    content = bytearray(file.read_bytes())
    content[400] ^= 0xFF  # of the first array: the checksum of its member no longer fits
    file.write_bytes(content)
    assert "cannot be read" in faults(folder)


def test_ties_may_go_either_way(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    victim, thief = torch.zeros(N, CLASSES), torch.zeros(N, CLASSES)
    measured = ClassifierEvaluation(k=3, also={}).compare(victim, thief, torch.zeros(N, dtype=torch.int64))
    rewritten(folder, **measured.predictions)
    write_json(folder / "result.json", {"schema": 1, "job_key": "j", "axis": {}, **record(measured.metrics)})
    assert faults(folder) == ""
    changed(folder, "metrics", test_of_agreement__3=1.5)
    assert "test/agreement@3 is 1.5" in faults(folder)


def test_of_an_encoder_every_downstream_set_and_head(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), begun(tmp_path, "e")
    arrays, figures, ratios = {}, {}, []
    for name in ("digits", "glyphs", "digits/knn"):
        victim, thief, label = random.integers(3, size=(3, 50))
        arrays |= {f"{name}/victim": victim, f"{name}/thief": thief, f"{name}/label": label}
        target, stolen = float(np.mean(victim == label)), float(np.mean(thief == label))
        same = float(np.mean(victim == thief))
        found = {"target_accuracy": target, "stolen_accuracy": stolen, "ratio": stolen / target, "agreement": same}
        figures |= {f"downstream/{name}/{metric}": value for metric, value in found.items()}
        ratios.append(found)
    for metric in ratios[0]:
        figures[f"test/{metric}"] = (ratios[0][metric] + ratios[1][metric]) / 2  # the headline's head alone
    intervals = {"downstream/digits/agreement": list(metrics.wilson(figures["downstream/digits/agreement"], 50))}
    np.savez(folder / "predictions.npz", **arrays)
    write_json(folder / "result.json", {
        "schema": 1, "job_key": "e", "axis": {}, "metrics": {**figures, "test/cka": 0.5}, "intervals": intervals,
    })  # fmt: skip
    assert faults(folder) == "" and status(tmp_path) == 0
    changed(folder, "metrics", test_of_ratio=figures["test/ratio"] + 1e-6)
    assert faults(folder).startswith("test/ratio is ")
    changed(folder, "metrics", test_of_ratio=figures["test/ratio"], downstream_of_other_of_agreement=0.5)
    assert faults(folder) == "downstream/other/agreement has no predictions"


def test_wilson_is_the_evaluations() -> None:
    for hits, n in ((0, 10), (7, 10), (999, 1000)):
        assert figures.wilson(hits, n) == pytest.approx(metrics.wilson(hits / n, n), abs=1e-12)


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    begun(tmp_path, "going")
    with pytest.raises(SystemExit, match="No job is finished"):
        verify.main(["verify", str(tmp_path)])
