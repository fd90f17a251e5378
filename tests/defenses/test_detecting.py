"""Proof of work, MMD windows and client limits against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError, DefenseError
from fmsteal.defenses.client_limits import ClientLimits
from fmsteal.defenses.mmd import MMD, TwoSample
from fmsteal.defenses.proof_of_work import ProofOfWork, price
from tests.support.asking import asked, guard_of, question, raw, surroundings, training_images
from tests.support.simplex import dirichlet


def test_seconds_are_those_of_the_formula_for_each_64_of_a_client() -> None:
    p, classes = dirichlet(0, 400, 5, 0.5), 5
    questions = [question(n % 256, client=n % 3 % 2, nth=n // 256) for n in range(400)]
    said = guard_of(ProofOfWork(1.02), classes).reply(asked(p, questions))
    train = raw(training_images(classes), np.arange(200), surroundings()).softmax(1).double().numpy()
    honest = float(np.mean([-sum(v * math.log(v) for v in row) for row in train]))
    told: dict[int, list[float]] = {0: [], 1: []}
    wanted = []
    for q, row in zip(questions, p.double().numpy(), strict=True):
        told[q.client].append(-sum(v * math.log(v) for v in row / row.sum() if v > 0))
        n = len(told[q.client])
        excess = abs(sum(told[q.client]) - n * honest)
        wanted.append(min(max(1.02**excess, 0.1), 2948) if n % 64 == 0 else 0.0)
    assert said.seconds is not None and torch.equal(said.answers, p)
    np.testing.assert_allclose(said.seconds.numpy(), wanted, rtol=1e-6)
    assert sum(second > 0 for second in wanted) == 6 == 400 * 2 // 3 // 64 + 400 // 3 // 64


@pytest.mark.parametrize(("excess", "seconds"), [(0, 1), (10, 1.18**10), (-10, 1.18**10), (1e6, 2948)])
def test_the_price_has_a_ceiling(excess: float, seconds: float) -> None:
    assert price(1.18, excess) == pytest.approx(seconds)


def by_pairs(window: Tensor, other: Tensor, width: float) -> float:
    """The unbiased estimate of MMD^2, a pair at a time."""

    def k(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * width**2))

    n, m = len(window), len(other)
    within = sum(k(window[i], window[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    of_other = sum(k(other[i], other[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within + of_other - 2 * sum(k(a, b) for a in window for b in other) / (n * m)


def test_mmd_is_the_sum_over_pairs_and_the_threshold_a_quantile_of_benign_windows() -> None:
    rows = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)).double()
    test = TwoSample(rows, 4, 0.25)
    assert test.width == pytest.approx(float(torch.pdist(rows).median()))
    parts = rows.chunk(4)
    window = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double() + 1
    assert test.figure(window) == pytest.approx(np.mean([by_pairs(window, part, test.width) for part in parts]))
    leave_out = [np.mean([by_pairs(a, b, test.width) for j, b in enumerate(parts) if j != i])
                 for i, a in enumerate(parts)]  # fmt: skip
    assert test.threshold == pytest.approx(np.quantile(leave_out, 0.75))


def test_windows_that_are_no_sample_of_the_victims_images_are_flagged() -> None:
    guard = guard_of(MMD(window=20, benign=10), 3)
    benign = raw(training_images(3), np.arange(1060, 1120), surroundings())
    odd = torch.randn(40, 3, generator=torch.Generator().manual_seed(5)) * 0.1 + 3
    questions = [question(n, client=0) for n in range(60)] + [question(n, client=1) for n in range(40)]
    ask = replace(asked(torch.full((100, 3), 1 / 3), questions), raw=torch.cat([benign, odd]))
    flags = guard.reply(ask).flags["mmd"]
    assert flags.nonzero().flatten().tolist() == [79, 99], "the last question of each of client 1's two windows"


@given(st.lists(st.integers(0, 1), max_size=40), st.integers(1, 9) | st.none(), st.sampled_from([None, 0.5, 4.0]))
@settings(max_examples=40)
def test_limits_are_a_loop_over_questions(clients: list[int], queries: int | None, rate: float | None) -> None:
    questions = [question(n, client=c) for n, c in enumerate(clients)]
    said = guard_of(ClientLimits(queries, rate), 3).reply(asked(torch.full((len(clients), 3), 1 / 3), questions, now=7))
    clock, answered, last = 7.0, [0, 0], [-math.inf, -math.inf]
    assert said.seconds is not None and said.refused is not None
    for c, seconds, refused in zip(clients, said.seconds.tolist(), said.refused.tolist(), strict=True):
        assert refused == (queries is not None and answered[c] >= queries)
        wait = max(0.0, last[c] + 1 / rate - clock) if rate and not refused else 0.0
        assert seconds == pytest.approx(wait)
        clock += seconds
        if not refused:
            answered[c], last[c] = answered[c] + 1, clock


def test_what_cannot_be_is_refused_by_name() -> None:
    for make, match in (
        (lambda: ProofOfWork(0.9), r"defense\.base"),
        (lambda: MMD(window=1), r"defense\.window"),
        (lambda: MMD(alpha=1.0), r"defense\.alpha"),
        (lambda: ClientLimits(0), r"defense\.queries"),
        (lambda: ClientLimits(per_second=0.0), r"defense\.per_second"),
        (lambda: guard_of(MMD(window=150), 3), "needs at least 300 training images, but there are 200"),
    ):
        with pytest.raises(ConfigError, match=match):
            make()
    with pytest.raises(DefenseError, match="ProofOfWork perturbs probabilities, but 1 of 1 rows"):
        guard_of(ProofOfWork(), 3).reply(asked(torch.tensor([[1.0, 1.0, 0.0]])))
