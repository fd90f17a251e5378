"""What every classifier job is judged by beyond plain agreement, and what is left out where it is not defined."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Measured
from fmsteal.evaluation.classifier import ClassifierEvaluation

HARD = ("test/kappa", "test/agreement_victim_wrong", "test/agreement_least_sure")


def compared(victim: torch.Tensor, thief: torch.Tensor, labels: torch.Tensor) -> Measured:
    return ClassifierEvaluation().compare(victim, thief, labels)


def test_hard_images_are_those_the_victim_is_wrong_about_and_least_sure_of() -> None:
    random = torch.Generator().manual_seed(3)
    victim, noise = (torch.randn(95, 6, generator=random) for _ in range(2))
    labels = torch.randint(6, (95,), generator=random)
    found = compared(victim, victim + noise, labels)
    said, copied = victim.argmax(1).numpy(), (victim + noise).argmax(1).numpy()
    wrong = [i for i in range(95) if said[i] != labels[i]]
    unsure = sorted(range(95), key=lambda i: torch.softmax(victim[i].double(), 0).max().item())[:10]
    for name, ids in zip(HARD[1:], (wrong, unsure), strict=True):
        want = float(np.mean([said[i] == copied[i] for i in ids]))
        assert 0 < want < 1 and found.values[name] == pytest.approx(want)
        assert found.intervals[name] == pytest.approx(metrics.wilson(want, len(ids)))
    assert found.values["test/kappa"] == metrics.kappa(victim, victim + noise)


def test_a_thief_of_another_model_than_the_victim_is_compared_with_both() -> None:
    random = torch.Generator().manual_seed(5)
    served, original, thief = (torch.randn(80, 6, generator=random) for _ in range(3))
    labels = torch.randint(6, (80,), generator=random)
    found, plain = ClassifierEvaluation().compare(served, thief, labels, original), compared(served, thief, labels)
    said, copied, first = (rows.argmax(1) for rows in (served, thief, original))
    own, theirs = ((who == labels).double().mean().item() for who in (copied, first))
    assert found.values["test/agreement_original"] == pytest.approx((copied == first).double().mean().item())
    assert found.values["test/victim_accuracy"] == pytest.approx(theirs)
    assert found.values["test/relative_accuracy"] == pytest.approx(own / theirs)
    for name in ("test/agreement", "test/agreement@5", "test/accuracy", "test/kl", "test/l1", *HARD):
        assert found.values[name] == plain.values[name]
    assert found.values["test/agreement"] == pytest.approx((said == copied).double().mean().item())
    assert "test/agreement_original" not in plain.values and "original" not in plain.predictions
    np.testing.assert_array_equal(found.predictions["original_logits"], original.numpy())


def test_kappa_of_a_constant_victim_is_left_out_by_name_and_the_rest_stays(caplog: pytest.LogCaptureFixture) -> None:
    victim = torch.tensor([[2.0, 1.0, 0.0]]).repeat(40, 1)
    thief, labels = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
    with caplog.at_level(logging.WARNING):
        found = compared(victim, thief, labels)
    assert "No test/kappa: of a victim that answers one class" in caplog.text
    assert "test/kappa" not in found.values and {"test/agreement", "test/kl", *HARD[1:]} <= found.values.keys()
    assert set(found.values) == {name for name in found.values if np.isfinite(found.values[name])}


def test_a_victim_that_is_never_wrong_has_no_agreement_there(caplog: pytest.LogCaptureFixture) -> None:
    victim = torch.eye(4).repeat(5, 1)
    with caplog.at_level(logging.INFO):
        found = compared(victim, victim, victim.argmax(1))
    assert "No test/agreement_victim_wrong: the victim is right about all 20 test images" in caplog.text
    assert HARD[1] not in found.values and found.values["test/kappa"] == 1
