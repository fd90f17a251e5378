from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.base.store import Store
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.inference import compute_outputs
from fmsteal.training.tuning import SIZES, find_best_batch, measure_speeds, pick
from tests.support.small_task import TASK, context, part


class Costly(nn.Module):
    """Takes a second for a pass and another for every 100 images, and has memory for 200 of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 200:
            raise torch.OutOfMemoryError
        self.now += 1 + len(x) / 100
        return x


def test_speeds_are_measured_up_to_what_fits() -> None:
    model = Costly()
    found = measure_speeds(model, torch.zeros(1, 2), clock=lambda: model.now)
    assert found == {size: pytest.approx(size / (1 + size / 100), abs=0.06) for size in SIZES if size <= 200}
    assert pick(found) == 128


def test_a_larger_batch_has_to_be_worth_it() -> None:
    assert pick({16: 100.0, 32: 104.0, 64: 103.0}) == 16
    assert pick({16: 100.0, 32: 110.0, 64: 112.0}) == 32
    assert pick({16: 100.0, 32: 90.0, 64: 180.0}) == 64


def test_the_first_measurement_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Costly()
    monkeypatch.setattr("fmsteal.training.tuning.measure_speeds", lambda model, example: {16: 1.0, 32: 9.0})
    assert find_best_batch(Store(tmp_path), model, torch.zeros(1, 2)) == 32
    monkeypatch.setattr("fmsteal.training.tuning.measure_speeds", lambda model, example: {16: 9.0, 32: 1.0})
    assert find_best_batch(Store(tmp_path), model, torch.zeros(1, 2)) == 32
    assert find_best_batch(Store(tmp_path), model, torch.zeros(1, 3)) == 16, "inputs of another shape are measured anew"


def test_a_backbone_of_another_size_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (BackboneSpec("resnet10t", size=size).build(pretrained=False) for size in (32, 64))
    monkeypatch.setattr("fmsteal.training.tuning.measure_speeds", lambda model, example: {model.size: 1.0})
    stored = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert [find_best_batch(Store(tmp_path), model, stored) for model in (small, large)] == [32, 64]


def test_outputs_are_the_same_but_for_rounding(tmp_path: Path) -> None:
    model = part("thief", "thief=resnet10t").build(3)
    want = compute_outputs(model, TASK.train, np.arange(40), context(tmp_path))
    ctx = context(tmp_path, "trainer.inference_batch=null")
    torch.testing.assert_close(compute_outputs(model, TASK.train, np.arange(40), ctx), want, rtol=1e-4, atol=1e-5)
    assert len(list((tmp_path / "cache" / "tuning").iterdir())) == 1
