"""What results say of their figures, and what is known of those that say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fmsteal.base.metric import Metric, record
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.report.read.about import OLD, SHARE, About, bounds, describe, guess
from fmsteal.report.read.headlines import FURTHER, HEADLINES
from fmsteal.report.read.study import Study
from tests.support.job_folders import done


def test_a_result_is_taken_at_its_word_and_an_older_one_by_the_names_of_its_figures() -> None:
    told = {**record([Metric("test/kl", 0.1, "divergence", None), Metric("x", 1)]), "cost": {"cost/usd": 1.0}}
    assert describe([told]) == {
        "test/kl": About("divergence", None), "x": About("x", True), "cost/usd": About("cost (USD)", False),
    }  # fmt: skip
    older = {"metrics": {"test/kl": 0.1, "x": 1.0, "my/kl": 1.0, "test/agreement@7": 0.5, "downstream/d/ratio": 1.0}}
    found = describe([older])
    assert found["test/kl"] == OLD["test/kl"] and found["test/kl"].higher_is_better is False
    assert found["x"].higher_is_better is found["my/kl"].higher_is_better is None, "the end of a name tells nothing"
    assert found["test/agreement@7"].higher_is_better is found["downstream/d/ratio"].higher_is_better is True


def test_results_that_differ_in_a_direction_leave_the_metric_without_one() -> None:
    one, other = (record([Metric("x", 1, label, better)]) for label, better in (("a", True), ("b", False)))
    assert describe([one, other, one]) == {"x": About("a", None)}


def test_a_damaged_record_is_not_believed() -> None:
    for about in ("text", {"x": "text"}, {"x": {"higher_is_better": "yes"}}, {}):
        assert describe([{"metrics": {"x": 1.0}, "about": about}])["x"] == About("x", None)


def test_bounds_are_those_a_metric_brings_and_else_those_of_known_names() -> None:
    result = record([Metric("x", 0.5, bounds=(0, 1)), Metric("y", 2, bounds=(0, None)), Metric("z", 2)])
    read = json.loads(json.dumps(result))  # as from a file
    assert [bounds(name, [read]) for name in "xyz"] == [(0, 1), (0, None), (None, None)]
    shares = ("test/agreement@5", "test/victim_accuracy", "downstream/d/stolen_accuracy", "transfer/pgd/changed")
    assert {bounds(name) for name in (*shares, "test/adversarial_agreement", "test/agreement_original")} == {SHARE}
    assert bounds("test/relative_accuracy") == bounds("cost/usd") == (0, None) and bounds("test/cosine") == (-1, 1)
    for told in ("text", [1], ["a", "b"], {}):
        assert bounds("x", [{"about": {"x": {"bounds": told}}}]) == (None, None)


def test_figures_beyond_what_a_name_promises_are_not_bounded(tmp_path: Path) -> None:
    for seed, share in enumerate((90.0, 99.0, 98.0)):  # a plug-in's per cent
        done(tmp_path, f"a{seed}", share, seed=seed)
    (cell,) = Study.of([tmp_path]).cells
    figure = cell.figure("test/agreement")
    assert figure and figure.interval and figure.interval[1] > 100


def test_the_table_for_older_results_says_what_measurements_say() -> None:
    logits = torch.eye(3)
    measured = ClassifierEvaluation(k=2).compare(logits, logits, torch.arange(3))
    since = {"test/kappa", "test/agreement_victim_wrong", "test/agreement_least_sure"}  # which older results have not
    for metric in measured.metrics:
        if metric.name in OLD:
            assert OLD[metric.name] == About(metric.label, metric.higher_is_better)
        if metric.name not in since:
            assert guess(metric.name).higher_is_better is metric.higher_is_better
    new = {name for name in {*HEADLINES, *FURTHER} - OLD.keys() if not name.startswith("honest/")}
    assert new == {"test/neighbours", "test/agreement_original", *since}, "which say what they are by themselves"
