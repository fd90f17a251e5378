"""Adaptive misinformation: its formula, its loss, and a network that is wrong on what it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config import build
from fmsteal.defenses.adaptive_misinformation import AdaptiveMisinformation, avoid_label, mix_answers
from fmsteal.defenses.base import prepare
from fmsteal.oracle.guard import Guard
from tests.support.asking import asked, question
from tests.support.composing import composed
from tests.support.simplex import dirichlet, simplex
from tests.support.small_task import TASK, context

FEW = ("recipes.scratch.epochs=8", "recipes.scratch.min_steps=0")


def made(*words: str) -> Any:
    return build.make(composed("defense=adaptive_misinformation", *FEW, *words).defense)


def guard_in(folder: Path, defense: Any, train: Any = TASK.train, width: int = 3) -> Guard:
    victim: Any = SimpleNamespace(width=width)
    return prepare(defense, victim, train, context(folder))


@given(simplex(), st.floats(0, 1), st.sampled_from([10.0, 1000.0, 10_000.0]), st.integers(0, 99))
@settings(max_examples=40)
def test_it_is_a_loop_over_rows(p: Tensor, tau: float, nu: float, seed: int) -> None:
    q = dirichlet(seed, len(p), p.shape[1]).double()
    for row, other, y in zip(p.double().numpy(), q.numpy(), mix_answers(p.double(), q, tau, nu).numpy(), strict=True):
        power = np.clip(nu * (row.max() - tau), -700, 700)
        share = 1 / (1 + np.exp(power))
        np.testing.assert_allclose(y, (1 - share) * row + share * other, atol=1e-9)


def test_the_loss_is_of_what_is_left_for_the_right_label() -> None:
    logits, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double(), torch.arange(9) % 4
    wanted = -(1 - logits.softmax(1)[torch.arange(9), labels]).log().mean()
    torch.testing.assert_close(avoid_label(logits, labels), wanted)
    sure = torch.tensor([[90.0, 0.0, 0.0]], requires_grad=True)
    loss = avoid_label(sure, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite() and sure.grad is not None and sure.grad.isfinite().all() and float(sure.grad[0, 0]) > 0.9


def test_sure_answers_stay_and_others_are_those_of_a_network_that_is_wrong(tmp_path: Path) -> None:
    guard = guard_in(tmp_path, made("defense.tau=0.6"))
    n = len(TASK.train)
    labels = torch.from_numpy(np.array(TASK.train.labels))
    images = torch.from_numpy(np.array(TASK.train.pixels[np.arange(n)]))
    right = torch.nn.functional.one_hot(labels, 3).float()
    for p, is_sure in ((0.7 * right + 0.1, True), (0.2 * right + 0.8 / 3, False)):
        ask = replace(asked(p, [question(i) for i in range(n)]), images=lambda: images)
        y = guard.reply(ask).answers
        assert bool(torch.allclose(y, p, atol=1e-5)) == is_sure
        accuracy = float((y.argmax(1) == labels).float().mean())
        assert accuracy == 1 if is_sure else accuracy < 0.2, accuracy
    again = guard_in(tmp_path, made("defense.tau=0.6"))
    assert torch.equal(again.reply(ask).answers, y) and len(list((tmp_path / "cache" / "defenses").iterdir())) == 1


def test_what_cannot_be_trained_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"AdaptiveMisinformation trains a network.*has no labels"):
        guard_in(tmp_path, made(), TASK.train.unlabelled())
    with pytest.raises(DataError, match="on 3 classes, but the victim's answers have 5"):
        guard_in(tmp_path, made(), width=5)
    net = made().net
    for options, match in (({"tau": 1.5}, r"defense\.tau"), ({"nu": 0.0}, r"defense\.nu")):
        with pytest.raises(ConfigError, match=match):
            AdaptiveMisinformation(net, **options)  # type: ignore[arg-type]
    convex = composed("defense=adaptive_misinformation", "defense.net.adaptation=probe",
                      "defense.net.recipe.solver=convex")  # fmt: skip
    with pytest.raises(ConfigError, match=r"defense\.net\.recipe\.solver=steps"):
        build.make(convex.defense)
