"""What a defense costs an honest client is part of every result of a job that has one, and of no other."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.store import digest
from fmsteal.identity.keys import node_identity
from fmsteal.records.honest import find_honest
from fmsteal.records.results import digest_asked, find_finished
from tests.job.jobs import QUERIES, answers, job, job_config, measured, read, run_job, theft
from tests.support.composing import composed
from tests.support.foreign_victims import Model


def test_a_job_with_a_defense_is_measured_for_an_honest_client(cache: Path, tmp_path: Path, done: Counter[str]) -> None:
    where = (f"cache={cache}", "defense=rounding", "defense.decimals=1")
    result = run_job(tmp_path, *where)
    found = {name.removeprefix("honest/"): v for name, v in result["metrics"].items() if name.startswith("honest/")}
    assert [name.partition("-")[0] for name in result["measurements"]] == ["classify", "honest"]
    assert done["queries"] == QUERIES == answers(theft(tmp_path)) == result["cost"]["cost/queries"]
    assert found["victim_accuracy"] == pytest.approx(result["metrics"]["test/victim_accuracy"])
    kept = np.load(job(tmp_path).predictions)
    p = kept["victim_logits"][kept["honest_ids"]].astype(np.float64)
    p = np.exp(p - p.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    y, labels = kept["honest_answers"].astype(np.float64), kept["label"][kept["honest_ids"]]
    np.testing.assert_allclose(y, p.astype(np.float32).round(1), atol=1e-6)
    assert found["accuracy"] == pytest.approx((y.argmax(1) == labels).mean())
    assert found["l1"] == pytest.approx(np.abs(y - p).sum(1).mean(), abs=1e-5)
    assert result["about"]["honest/l1"] == {"label": "L1(defended, undefended)", "higher_is_better": None,
                                            "bounds": [0, None]}  # fmt: skip
    before = {p: p.read_bytes() for p in theft(tmp_path).path.iterdir() if p.is_file()}
    shutil.rmtree(measured(theft(tmp_path))["honest"].path)
    done.clear()
    again = run_job(tmp_path, *where)
    same = {name: v for name, v in again["metrics"].items() if name != "honest/ms_per_query"}
    assert same == {name: v for name, v in result["metrics"].items() if name != "honest/ms_per_query"}
    assert not +done and {p: p.read_bytes() for p in theft(tmp_path).path.iterdir() if p.is_file()} == before


def test_what_an_attack_has_done_to_a_state_is_not_the_honest_clients(cache: Path, tmp_path: Path) -> None:
    """A hundred glyphs set off PRADA, and the attacker's budget is spent: the honest client has its own."""
    words = ("defense=client_limits", f"defense.queries={QUERIES}", f"cache={cache}")
    found = run_job(tmp_path, *words)["metrics"]
    assert found["honest/refused"] == pytest.approx(1 - QUERIES / found["honest/questions"])
    log = theft(tmp_path).defense_log.read_bytes()
    shutil.rmtree(measured(theft(tmp_path))["honest"].path)
    assert run_job(tmp_path, *words)["metrics"]["honest/refused"] == found["honest/refused"]
    assert theft(tmp_path).defense_log.read_bytes() == log


def test_a_job_without_a_defense_asks_for_what_it_always_did(cache: Path, tmp_path: Path) -> None:
    result = run_job(tmp_path, f"cache={cache}")
    assert not [name for name in result["metrics"] if name.startswith("honest/")]
    assert [name.partition("-")[0] for name in result["measurements"]] == ["classify"]
    plain = job_config(tmp_path)
    assert digest_asked(plain) == digest([node_identity(plain.evaluation, "evaluation")]) and find_honest(plain) is None
    defended = job_config(tmp_path, "defense=top_k")
    assert digest_asked(defended) != digest_asked(plain)


def test_a_result_from_before_is_measured_on(cache: Path, tmp_path: Path) -> None:
    """One that lacks the figures is no finished job any more; its theft is."""
    words = (f"cache={cache}", "defense=hard_label")
    result, cfg = run_job(tmp_path, *words), job_config(tmp_path, *words)
    assert find_finished(job(tmp_path).path, result["job_key"], cfg) is not None
    old = digest([node_identity(cfg.evaluation, "evaluation")])
    assert read(job(tmp_path).result)["asked"] != old


def test_its_options_are_an_evaluations_and_the_default_is_the_same_measurement(cache: Path, tmp_path: Path) -> None:
    words = (f"cache={cache}", "defense=top_k")
    first = run_job(tmp_path, *words)
    Model.seen = 0
    again = run_job(tmp_path, *words, "evaluation=honest")
    assert again["measurements"] == first["measurements"] and again["metrics"] == first["metrics"]
    fewer = run_job(tmp_path, *words, "evaluation=honest", "evaluation.also.honest.questions=50")
    assert fewer["metrics"]["honest/questions"] == 50 and len(fewer["measurements"]) == 2


def test_of_an_encoder_it_takes_the_evaluations_tasks_and_its_headlines_head() -> None:
    cfg = composed("task=embed", "defense=feature_noise", "+evaluation/head@evaluation.heads.knn=knn")
    node = find_honest(cfg)
    assert node is not None and set(node.downstream) == {"_target_", "_recursive_", "digits"}
    assert node.head._target_.endswith("LinearHead") and find_honest(composed("task=embed")) is None
    named = composed("task=embed", "defense=feature_noise", "evaluation=honest_encoder")
    assert find_honest(named) is None
    assert node_identity(named.evaluation.also.honest, "evaluation.also.honest") == node_identity(node, "honest")


@pytest.mark.slow
def test_what_a_defense_has_trained_serves_the_honest_client_too(
    cache: Path, tmp_path: Path, done: Counter[str]
) -> None:
    words = (
        f"cache={cache}", "defense=ensemble", "defense.members=2", "defense.outliers.images.count=64",
        "defense.net.backbone.size=16", "recipes.scratch.epochs=1", "recipes.scratch.min_steps=0",
    )  # fmt: skip
    result = run_job(tmp_path, *words)
    assert done["train ensemble"] == 1 and done["queries"] == QUERIES
    found = result["metrics"]
    assert found["honest/l1"] > 0 and found["honest/label_kept"] < 1 and found["honest/false_alarms"] == 0
    y = np.load(job(tmp_path).predictions)["honest_answers"]
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-5)
    assert np.isfinite(y).all() and (y >= 0).all()


def test_a_trunk_that_a_defense_shares_with_the_victim_asks_it_nothing(
    cache: Path, tmp_path: Path, done: Counter[str]
) -> None:
    """The theft is sealed, though images pass through a trunk of the victim's kind outside of the oracle."""
    words = (
        f"cache={cache}", "victim._target_=tests.support.foreign_victims.OnTrunk",
        "defense=unprobeable", "defense.outliers.images.count=64", "defense.epochs=1",
    )  # fmt: skip
    result = run_job(tmp_path, *words)
    assert done["queries"] == QUERIES
    assert result["metrics"]["honest/l1"] > 0
