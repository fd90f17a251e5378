"""MixMatch's pieces against plain loops from the paper's equations, and one step of it by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks.mixmatch import LEAST_ALPHA, MixMatch, MixMatchModule, guess_answers, mix_up, mixmatch_loss
from fmsteal.attacks.selection import random
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.training.recipe import Recipe
from tests.attacks.logits import classes, logits, rows, softmax
from tests.support.composing import composed
from tests.support.exact import agree, seeds


@given(rows, rows, classes, seeds, st.sampled_from([0.0, 1.0, 75.0]))
@settings(max_examples=30)
def test_the_loss_is_equations_3_to_5(labelled: int, others: int, count: int, seed: int, weight: float) -> None:
    z = logits(seed, labelled + others, count)
    y = logits(seed + 1, labelled + others, count).softmax(dim=1)

    def loop(z: Tensor) -> Tensor:
        known, other = torch.zeros((), dtype=z.dtype), torch.zeros((), dtype=z.dtype)
        for i in range(labelled):
            p = softmax(z[i])
            for k in range(count):
                known = known - y[i, k].to(z.dtype) * torch.log(p[k])
        for i in range(labelled, labelled + others):
            p = softmax(z[i])
            for k in range(count):
                other = other + (y[i, k].to(z.dtype) - p[k]) ** 2
        return known / labelled + weight * other / (count * others)

    agree(lambda z: mixmatch_loss(z, y.to(z.dtype), labelled, weight)[0], loop, z)


@given(rows, st.integers(1, 4), classes, seeds, st.sampled_from([0.5, 1.0, 0.1]))
@settings(max_examples=30)
def test_guesses_are_equations_6_and_7(images: int, views: int, count: int, seed: int, temperature: float) -> None:
    z = logits(seed, views, images, count).double()
    found = guess_answers(z.flatten(0, 1), views, temperature)
    for i in range(images):
        mean = sum(softmax(z[v, i]) for v in range(views)) / views
        powers = [p ** (1 / temperature) for p in mean]
        torch.testing.assert_close(found[i], torch.stack([p / sum(powers) for p in powers]), rtol=1e-9, atol=1e-12)


def test_sharpening_by_hand() -> None:
    answer = torch.tensor([[0.6, 0.3, 0.1]])
    torch.testing.assert_close(guess_answers(answer.log(), 1, 1.0), answer)
    torch.testing.assert_close(guess_answers(answer.log(), 1, 0.5), torch.tensor([[0.36, 0.09, 0.01]]) / 0.46)


@given(st.integers(1, 9), seeds, st.sampled_from([0.75, 0.1, 16.0]), st.booleans())
@settings(max_examples=30)
def test_mixtures_are_equations_8_to_11(count: int, seed: int, alpha: float, images: bool) -> None:
    inputs = torch.randn(count, *([3, 2, 2] if images else [5]), generator=torch.Generator().manual_seed(seed))
    targets = logits(seed, count, 3).softmax(dim=1)
    torch.manual_seed(seed)
    mixture, answers = mix_up(inputs, targets, alpha)
    torch.manual_seed(seed)
    beta = torch.distributions.Beta(torch.full((count,), alpha), torch.full((count,), alpha)).sample().tolist()
    partner = torch.randperm(count).tolist()
    for i in range(count):
        share = max(beta[i], 1 - beta[i])
        assert 0.5 <= share <= 1
        torch.testing.assert_close(mixture[i], share * inputs[i] + (1 - share) * inputs[partner[i]])
        torch.testing.assert_close(answers[i], share * targets[i] + (1 - share) * targets[partner[i]])


@pytest.mark.parametrize("alpha", [LEAST_ALPHA, 0.75, 1.0])
def test_shares_are_drawn_for_each_row_from_the_folded_beta(alpha: float) -> None:
    torch.manual_seed(0)
    marks = torch.eye(300)  # a mixture names both of its rows, and their shares
    mixture, answers = mix_up(marks, marks, alpha)
    shares = mixture.diagonal()
    torch.testing.assert_close(mixture, answers)
    assert shares.min() >= 0.5 and len(shares.unique()) > (250 if alpha > 0.1 else 5)
    folded = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    wanted = np.maximum(folded, 1 - folded)
    assert abs(float(shares.mean()) - wanted.mean()) < 5 * wanted.std() / 300**0.5


class Steps(MixMatchModule):
    """The module at a step of its choice, without a trainer."""

    at, steps = 0, 10

    @property
    def trainer(self) -> Any:
        return SimpleNamespace(global_step=self.at, estimated_stepping_batches=self.steps)


RECIPE = Recipe(epochs=1, batch_size=2, optimizer="sgd", lr=0.1)


def module(**options: Any) -> Steps:
    torch.manual_seed(1)
    return Steps(nn.Linear(4, 3), MixMatch(selection=random, **options), RECIPE, 0)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_step_by_hand(labels: Any) -> None:
    made = module(labels=labels, views=2, weight=75.0, ramp=0.5)
    made.at = 2  # of 5 in which the weight rises
    x, u, y = torch.randn(2, 4), torch.randn(6, 4), torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    torch.manual_seed(3)
    loss, logs = made.loss((x, y, u))

    known = y if labels == "soft" else torch.tensor([[0.0, 1, 0], [1, 0, 0]])
    guess = ((made.student(u[:3]).softmax(1) + made.student(u[3:]).softmax(1)) / 2) ** 2
    guess = guess / guess.sum(1, keepdim=True)
    torch.manual_seed(3)
    inputs, targets = mix_up(torch.cat([x, u]), torch.cat([known, guess, guess]), 0.75)
    p = made.student(inputs).softmax(1)
    cross = -(targets[:2] * p[:2].log()).sum(1).mean()
    square = (targets[2:] - p[2:]).square().sum() / (3 * 6)
    torch.testing.assert_close(loss, cross + 75 * 2 / 5 * square)
    torch.testing.assert_close(logs, {"labelled": cross.detach(), "unlabelled": square.detach()})
    (gradient,) = torch.autograd.grad(loss, made.student.weight)
    held = targets.detach()  # no gradient through guesses
    wanted = -(held[:2] * p[:2].log()).sum(1).mean() + 30 * (held[2:] - p[2:]).square().sum() / 18
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, made.student.weight)[0])


def test_the_weight_rises_to_its_value() -> None:
    for ramp, at, wanted in [(1.0, 0, 0.0), (1.0, 5, 0.5), (0.5, 3, 0.6), (0.5, 8, 1.0), (0.0, 0, 1.0)]:
        made = module(weight=4.0, ramp=ramp)
        made.at = at
        assert made.weight == pytest.approx(4 * wanted)


@pytest.mark.parametrize(
    "option", ["labels=some", "views=0", "temperature=0", "alpha=0.001", "weight=-1", "ramp=1.1", "ratio=0", "ema=1"]
)
def test_what_makes_no_sense_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"attack\.{option.split('=')[0]}"):
        build.make(composed("attack=mixmatch", f"attack.{option}").attack)
