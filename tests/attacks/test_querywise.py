"""QueryWise's losses against plain loops from their formulas, and one step of it by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks.losses import hard_cross_entropy, soft_cross_entropy
from fmsteal.attacks.querywise import (
    QueryWise,
    QueryWiseModule,
    distillation,
    labelled_loss,
    log_frequencies,
    unlabelled_loss,
)
from fmsteal.attacks.selection import random
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.training.recipe import Recipe
from tests.attacks.logits import classes, logits, rows, softmax
from tests.support.composing import composed
from tests.support.exact import agree, seeds

shares = st.sampled_from([0.0, 0.4, 1.0])
temperatures = st.sampled_from([1.0, 1.5, 4.0])


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 sum_k q_k log(q_k / p_k)`` of one row."""
    p, q = softmax(student / temperature), softmax(teacher / temperature)
    total = torch.zeros((), dtype=p.dtype)
    for k in range(len(p)):
        total = total + q[k] * torch.log(q[k] / p[k])
    return temperature**2 * total


@given(rows, classes, seeds, shares, temperatures, st.booleans())
@settings(max_examples=30)
def test_the_labelled_part(n: int, count: int, seed: int, share: float, temperature: float, hard: bool) -> None:
    z, anchor = logits(seed, n, count), logits(seed + 1, n, count)
    y = logits(seed + 2, n, count).softmax(dim=1)

    def loop(z: Tensor, anchor: Tensor) -> Tensor:
        total = torch.zeros((), dtype=z.dtype)
        for i in range(n):
            p = softmax(z[i])
            label = max(range(count), key=lambda k: float(y[i, k]))
            weights = [float(k == label) for k in range(count)] if hard else [y[i, k].to(z.dtype) for k in range(count)]
            cross = -sum(w * torch.log(p[k]) for k, w in enumerate(weights))
            total = total + (1 - share) * cross + share * divergence(z[i], anchor[i], temperature)
        return total / n

    loss = hard_cross_entropy if hard else soft_cross_entropy

    def ours(z: Tensor, anchor: Tensor) -> Tensor:
        return labelled_loss(z, y.to(z.dtype), anchor, loss, share, temperature)

    agree(ours, loop, z, anchor)


@given(rows, classes, seeds, shares, temperatures, st.data())
@settings(max_examples=30)
def test_the_unlabelled_part(
    n: int, count: int, seed: int, share: float, temperature: float, data: st.DataObject
) -> None:
    inputs = [logits(seed + k, n, count) for k in range(3)]
    sure = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))

    def loop(z: Tensor, average: Tensor, anchor: Tensor) -> Tensor:
        total = torch.zeros((), dtype=z.dtype)
        for i in range(n):
            if sure[i]:
                total = total + (1 - share) * divergence(z[i], average[i], temperature)
                total = total + share * divergence(z[i], anchor[i], temperature)
        return total / n + 0 * (z.sum() + average.sum() + anchor.sum())

    agree(lambda *z: unlabelled_loss(*z, torch.tensor(sure), share, temperature), loop, *inputs)


def test_distillation_from_oneself_is_nothing() -> None:
    z = logits(0, 4, 5)
    torch.testing.assert_close(distillation(z, z + 3, 1.5), torch.zeros(4), rtol=0, atol=1e-6)


def test_frequencies_by_hand() -> None:
    answers = torch.eye(4)[[0, 0, 0, 1, 1, 2, 0, 0]] * 0.5  # class 3 is never answered: as if it were once
    want = torch.tensor([math.log(5 / 8), math.log(2 / 8), math.log(1 / 8), math.log(1 / 8)])
    torch.testing.assert_close(log_frequencies(answers, 1.0), want)
    torch.testing.assert_close(log_frequencies(answers, 0.5), want / 2)
    assert bool((log_frequencies(answers, 0.0) == 0).all())
    assert log_frequencies(answers, 1.0).dtype == torch.float32


def test_a_step_by_hand() -> None:
    torch.manual_seed(0)
    net, anchor, shift = nn.Linear(4, 3), nn.Linear(4, 3), torch.tensor([-0.5, -1.0, -2.0])
    attack = QueryWise(selection=random, loss=hard_cross_entropy, confidence=0.5, weight=2.0)
    recipe = Recipe(epochs=1, batch_size=2, optimizer="sgd", lr=0.1)
    made = QueryWiseModule(net, anchor, shift, attack, recipe, 0)
    with torch.no_grad():
        made.student.weight += 0.3  # so that the average is another
    x, u, y = torch.randn(2, 4), torch.randn(14, 4), torch.rand(2, 3)
    loss, logs = made.loss((x, y, u))

    adjusted = made.student(x) + shift
    known = 0.6 * nn.functional.cross_entropy(adjusted, y.argmax(1))
    for i in range(2):
        known = known + 0.4 * divergence(adjusted[i], anchor(x)[i], 1.5) / 2
    other, sure = torch.zeros(()), 0
    for row in u:
        z, average, anchored = made.student(row), net(row), anchor(row)
        if float(anchored.softmax(0).max()) >= 0.5:
            sure += 1
            other = other + (divergence(z, average, 1.5) + divergence(z, anchored, 1.5)) / 2 / 14
    assert 0 < sure < 14
    torch.testing.assert_close(loss, known + 2 * other)
    assert float(logs["confident"]) == pytest.approx(sure / 14)
    loss.backward()
    assert net.weight.grad is None and anchor.weight.grad is None and made.student.weight.grad is not None


@pytest.mark.parametrize(
    "option",
    ["distil=1.1", "confidence=-1", "anchoring=2", "temperature=0", "unlabelled_temperature=0", "adjustment=-1"],
)
def test_what_makes_no_sense_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"attack\.{option.split('=')[0]}"):
        build.make(composed("attack=querywise", f"attack.{option}").attack)
