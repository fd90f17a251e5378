"""An evaluation is a set of measurements, each run by itself on outputs that are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.store import Store
from fmsteal.evaluation.base import (
    Found,
    Measured,
    Measurement,
    Pair,
    gather_inputs,
    list_measurements,
    measure,
    measure_all,
)
from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.small_task import TASK, context, part

LEARNERS = part("victim"), part("thief")
N = len(TASK.test)


class Counting(nn.Module):
    """A classifier that counts how often it is called."""

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.out, self.calls = out, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.float().flatten(1)[:, : self.out]


@dataclass(frozen=True)
class Margin(Measurement):
    """Of the thief's logits, from what was kept."""

    needs_victim: ClassVar[bool] = False
    how: str = "metrics"

    def inputs(self, store: Store) -> Mapping[str, str]:
        return {"margin": "digest"}

    def run(self, pair: Pair, ctx: Context) -> Found:
        best = pair.logits[1].topk(2).values
        metric = Metric("margin/distance", (best[:, 0] - best[:, 1]).mean().item(), "margin", False)
        return {
            "metrics": [metric],
            "mapping": {metric.name: metric.value},
            "measured": Measured([metric], {"margin": best.numpy()}),
        }[self.how]  # type: ignore[return-value]


def made(folder: Path, known: tuple[Tensor, Tensor] | None = None) -> tuple[Pair, Counting, Context]:
    thief, ctx = Counting(), context(folder)
    return Pair(Victim("v", Counting()), thief, LEARNERS, TASK, ctx, known), thief, ctx


def test_outputs_are_computed_when_they_are_asked_for_and_once(tmp_path: Path) -> None:
    pair, thief, ctx = made(tmp_path)
    assert pair.victim.forwards == thief.calls == 0
    evaluation = ClassifierEvaluation(also={"margin": Margin(), "again": Margin()})
    found = measure_all(evaluation, pair, ctx)
    assert pair.victim.forwards == N and thief.calls == 1
    assert torch.equal(pair.logits[0], pair.logits[1]) and found.values["test/agreement"] == 1


def test_outputs_that_are_known_need_no_forward_pass(tmp_path: Path) -> None:
    pair, _, ctx = made(tmp_path / "a")
    whole = measure_all(ClassifierEvaluation(), pair, ctx)
    kept = tuple(torch.from_numpy(whole.predictions[f"{who}_logits"]) for who in ("victim", "thief"))
    later, thief, ctx = made(tmp_path / "b", kept)  # type: ignore[arg-type]
    assert measure(Margin(), later, ctx).values == measure(Margin(), pair, ctx).values
    assert measure_all(ClassifierEvaluation(), later, ctx).metrics == whole.metrics
    assert later.victim.forwards == thief.calls == 0


def test_the_main_measurement_is_one_like_the_others_and_the_first(tmp_path: Path) -> None:
    evaluation = ClassifierEvaluation(also={"margin": Margin()})
    assert list_measurements(evaluation) == {"classify": evaluation, "margin": Margin()}
    assert evaluation.inputs(Store(tmp_path)) == {}
    assert gather_inputs(evaluation, Store(tmp_path)) == {"margin": "digest"}
    pair, _, ctx = made(tmp_path)
    assert "margin/distance" not in measure(evaluation, pair, ctx).values
    assert not Margin.needs_victim and ClassifierEvaluation.needs_victim
    with pytest.raises(ConfigError, match=r"evaluation\.also\.classify has the name of the evaluation's own"):
        list_measurements(ClassifierEvaluation(also={"classify": Margin()}))


@pytest.mark.parametrize(("how", "better"), [("metrics", False), ("measured", False), ("mapping", None)])
def test_a_measurement_returns_metrics_or_plain_numbers(how: str, better: bool | None, tmp_path: Path) -> None:
    pair, _, ctx = made(tmp_path)
    (metric,) = measure(Margin(how), pair, ctx).metrics
    assert metric.name == "margin/distance" and metric.value > 0 and metric.higher_is_better is better
    found = measure_all(ClassifierEvaluation(also={"margin": Margin(how)}), pair, ctx)
    assert found.metrics[-1] == metric and found.metrics[0].name == "test/agreement"
    assert list(found.predictions)[:5] == ["victim", "thief", "label", "victim_logits", "thief_logits"]
    assert ("margin" in found.predictions) is (how == "measured")


def test_a_thief_that_cannot_be_judged_is_refused_when_its_outputs_are_asked_for(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    wide = Pair(Victim("v", Counting()), Counting(5), LEARNERS, TASK, ctx)
    with pytest.raises(AttackError, match=rf"answers \({N}, 5\) where the victim answers \({N}, 3\)"):
        measure(Margin(), wide, ctx)
