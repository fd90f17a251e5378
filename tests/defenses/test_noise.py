"""Noise on probabilities: as many draws as promised, of the distribution promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats
from torch import Tensor

from fmsteal.defenses.noise import Gaussian, Laplace, Noise
from tests.support.asking import asked, question, reply
from tests.support.simplex import dirichlet, simplex


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@given(simplex())
@settings(max_examples=40)
def test_it_is_a_loop_over_rows(kind: type[Noise], p: Tensor) -> None:
    defense, ask = kind(0.7), asked(p)
    for row, (answer, y) in enumerate(zip(p.double().numpy(), reply(defense, p).answers.numpy(), strict=True)):
        noisy = [
            max(0.0, v + 0.7 * n) for v, n in zip(answer, defense.draw(len(answer), ask.generator(row)), strict=True)
        ]
        wanted = np.array(noisy) / sum(noisy) if sum(noisy) else answer / answer.sum()
        np.testing.assert_allclose(y, wanted, atol=1e-6)


@pytest.mark.parametrize(("kind", "law"), [(Gaussian, stats.norm), (Laplace, stats.laplace)])
def test_the_noise_has_its_distribution(kind: type[Noise], law: stats.rv_continuous) -> None:
    drawn = kind(1.0).draw(20_000, torch.Generator().manual_seed(0)).numpy()
    assert stats.kstest(drawn * (1 if law is stats.norm else 2**0.5), law.cdf).pvalue > 0.01
    other = stats.laplace if law is stats.norm else stats.norm
    assert stats.kstest(drawn, other.cdf).pvalue < 1e-6


def test_a_row_of_which_nothing_is_left_is_answered_as_it_is() -> None:
    p = dirichlet(0, 2000, 3)
    empty = 0
    for row, y in zip(
        p, reply(Gaussian(9.0), p, [question(n % 256, n // 256) for n in range(2000)]).answers, strict=True
    ):
        empty += torch.allclose(y, row, atol=1e-6)
    assert 150 < empty < 350  # all three of them negative: an eighth


def test_it_is_drawn_for_each_question_or_frozen() -> None:
    p = dirichlet(0, 1, 10)
    questions = [question(3), question(3, nth=1), question(3, client=1), question(4)]

    def answers(per: str) -> list[list[float]]:
        return [reply(Gaussian(0.2, per=per), p, [q]).answers[0].tolist() for q in questions]  # type: ignore[arg-type]

    once, again, other, image = answers("ask")
    assert len({str(row) for row in (once, again, other, image)}) == 4
    once, again, other, image = answers("image")
    assert once == again == other != image
    once, again, other, image = answers("client")
    assert once == again == image != other
