"""A defense that puts another model in the victim's place: the thief is compared with the one that serves."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fmsteal.evaluation import classifier
from fmsteal.report.checks.figures import check_figures
from fmsteal.report.read.majority import scores
from tests.job.jobs import job, job_config, measured, read, run_job, theft

ENSEMBLE = (
    "backbone@defense.net.backbone=resnet10t", "defense.net.backbone.model=test_resnet", "defense.net.backbone.size=16",
    "defense.net.recipe.epochs=1", "defense.net.recipe.min_steps=0", "defense.outliers.images.count=100",
)  # fmt: skip


def test_agreement_is_with_the_model_that_serves_and_accuracy_with_the_plain_victims(
    cache: Path, tmp_path: Path, done: Counter[str]
) -> None:
    chain = ("defense=chain", "+defense@defense.of.a=ensemble", "+defense@defense.of.b=hard_label")
    words = (f"cache={cache}", *chain, *(word.replace("defense.", "defense.of.a.") for word in ENSEMBLE))
    result = run_job(tmp_path, *words)
    found, kept = result["metrics"], dict(np.load(job(tmp_path).predictions))
    served, original, thief, label = (kept[name] for name in ("victim", "original", "thief", "label"))
    assert (served != original).mean() > 0.1
    assert found["test/agreement"] == pytest.approx((served == thief).mean())
    assert found["test/agreement_original"] == pytest.approx((original == thief).mean())
    assert found["test/victim_accuracy"] == pytest.approx((original == label).mean())
    assert found["test/relative_accuracy"] == pytest.approx((thief == label).mean() / (original == label).mean())

    # What an honest client gets are the labels of the model that serves, and what it is compared with is the victim.
    ids = kept["honest_ids"]
    assert np.array_equal(kept["honest_answers"].argmax(1), served[ids])
    assert found["honest/label_kept"] == pytest.approx((served == original)[ids].mean())
    assert found["honest/victim_accuracy"] == pytest.approx((original == label)[ids].mean())
    checked = check_figures(job(tmp_path).path, result)
    assert not checked.faults and {"test/agreement", "test/agreement_original"} <= checked.off.keys()
    most = np.bincount(label).argmax()
    assert scores(job(tmp_path).path)["test/agreement"] == pytest.approx((served == most).mean())
    assert scores(job(tmp_path).path)["test/relative_accuracy"] == pytest.approx(
        (label == most).mean() / (original == label).mean()
    )

    # The logits that one measurement keeps are another's, the plain victim's among them.
    done.clear()
    again = run_job(tmp_path, *words, "evaluation.k=3")
    assert not +done and again["metrics"]["test/agreement_original"] == found["test/agreement_original"]
    for name in ("original_logits", "victim_logits"):
        np.testing.assert_array_equal(np.load(job(tmp_path).predictions)[name], kept[name])


@pytest.mark.slow
def test_a_measurement_from_before_is_made_again(cache: Path, tmp_path: Path, done: Counter[str]) -> None:
    """One whose agreement was with the plain victim; the theft is the same, and nothing is stolen again."""
    words = (f"cache={cache}", "defense=ensemble", *ENSEMBLE)
    first = run_job(tmp_path, *words)
    folder = measured(theft(tmp_path))["classify"]
    assert read(folder.record)["spec"]["agreement"] == "the model that serves"
    shutil.rmtree(folder.path)
    done.clear()
    assert run_job(tmp_path, *words)["metrics"]["test/agreement"] == first["metrics"]["test/agreement"]
    assert not +done
    plain = run_job(tmp_path, f"cache={cache}", "defense=hard_label", name="plain")
    assert "test/agreement_original" not in plain["metrics"]
    record = read(measured(theft(tmp_path, "plain"))["classify"].record)
    assert "agreement" not in record["spec"] and record["spec"]["measurement"] == read_identity(tmp_path)


def read_identity(root: Path) -> object:
    from fmsteal.identity.keys import node_identity

    known = dict(node_identity(job_config(root).evaluation, "evaluation"))
    known.pop("also", None)
    assert known["version"] == classifier.ClassifierEvaluation.version
    return known
