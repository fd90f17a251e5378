from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.report.verify import main
from fmsteal.store import read_json, write_json
from tests.report.test_study import done


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A finished job with the evaluation's own figures of random logits."""
    random = torch.Generator().manual_seed(0)
    victim = torch.randn(50, 7, generator=random) * 3
    thief = victim + torch.randn(50, 7, generator=random)
    measured = ClassifierEvaluation().compare(victim, thief, torch.randint(7, (50,), generator=random))
    done(tmp_path, "a", 0.0)
    result = read_json(tmp_path / "a" / "result.json")
    metrics = {**measured.metrics, "ood/noise/agreement": 0.5}
    write_json(tmp_path / "a" / "result.json", {**result, "metrics": metrics, "intervals": measured.intervals})
    np.savez(tmp_path / "a" / "predictions.npz", **measured.predictions)  # type: ignore[arg-type]
    return tmp_path / "a"


def verified(sweep: Path) -> None:
    main(["verify", str(sweep)])


def test_figures_as_evaluated_match(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verified(job.parent)
    assert "1 jobs: 7 figures match, 1 hang on more than the predictions; 0 jobs" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["test/agreement", "test/agreement@5", "test/accuracy", "test/kl", "test/l1"])
def test_a_figure_that_was_changed_is_named(job: Path, metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(job / "result.json")
    result["metrics"][metric] += 0.02
    write_json(job / "result.json", result)
    with pytest.raises(SystemExit, match="1"):
        verified(job.parent)
    out = capsys.readouterr().out
    assert f"{job}: {metric} is" in out and "6 figures match" in out


def test_predictions_that_were_changed_are_named(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(job / "predictions.npz") as file:
        arrays = dict(file)
    arrays["thief"] = np.roll(arrays["thief"], 1)
    np.savez(job / "predictions.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        verified(job.parent)
    assert "the thief's answers are not those of its logits" in capsys.readouterr().out
    np.savez(job / "predictions.npz", **{**arrays, "label": arrays["label"][:-1]})  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        verified(job.parent)
    assert "50, 50 and 49 predictions" in capsys.readouterr().out


def test_a_torn_or_missing_file_is_named(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (job / "predictions.npz").read_bytes()
    (job / "predictions.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        verified(job.parent)
    assert "cannot be read" in capsys.readouterr().out
    (job / "predictions.npz").unlink()
    with pytest.raises(SystemExit):
        verified(job.parent)
    assert "There is no" in capsys.readouterr().out


def test_an_encoders_sets_are_verified_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label, victim, thief = (np.array(rows) for rows in ([0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 0, 0]))
    done(tmp_path, "a", 0.75)
    sets = {f"{name}/{who}": rows for name in ("svhn", "gtsrb", "svhn/knn") for who, rows in
            (("victim", victim), ("thief", thief), ("label", label))}  # fmt: skip
    np.savez(tmp_path / "a" / "predictions.npz", **sets)
    result = read_json(tmp_path / "a" / "result.json")
    result["metrics"] = {
        "downstream/svhn/target_accuracy": 0.75, "downstream/svhn/stolen_accuracy": 0.5,
        "downstream/svhn/knn/agreement": 0.75, "downstream/gtsrb/ratio": 0.5 / 0.75, "test/ratio": 0.5 / 0.75,
        "test/agreement": 0.75, "test/cosine": 0.9,
    }  # fmt: skip
    write_json(tmp_path / "a" / "result.json", result)
    verified(tmp_path)
    assert "6 figures match, 1 hang" in capsys.readouterr().out


def test_nothing_to_verify_is_not_success(tmp_path: Path) -> None:
    (tmp_path / "a" / ".hydra").mkdir(parents=True)
    with pytest.raises(SystemExit):
        verified(tmp_path)
