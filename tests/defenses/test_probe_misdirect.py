"""probe_misdirect against scikit-learn's ridge regression, and what it does to a probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.cheapest import find_cheapest
from fmsteal.defenses.probe_misdirect import ProbeMisdirect, find_scores
from fmsteal.networks.backbones import BackboneSpec
from tests.support.simplex import dirichlet

PENALTY = 0.02
TRUNK = BackboneSpec("test_resnet", size=32)


def data(n: int = 60, width: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = 2 + torch.randn(n, width, generator=draw, dtype=torch.float64) * torch.arange(1, width + 1)
    return x, (x @ torch.randn(width, classes, generator=draw, dtype=torch.float64)).softmax(1)


def mean_lead(x: Tensor, answers: Tensor, p: Tensor) -> float:
    """The mean lead of a probe of the answers for the victim's class over its second, by a plain loop."""
    probe = Ridge(alpha=PENALTY * len(x) * float(x.var(0, correction=0).mean()), solver="cholesky", tol=1e-12)
    scores = probe.fit(x.numpy(), answers.numpy()).predict(x.numpy())
    leads = []
    for row, own in zip(scores, p.numpy(), strict=True):
        second, first = np.argsort(own)[-2:]
        leads.append(row[first] - row[second])
    return float(np.mean(leads))


def test_the_scores_are_what_an_answer_adds_to_the_probes_mean_lead() -> None:
    x, p = data()
    weight, bias = find_scores(x, p, PENALTY)
    g = x @ weight.T + bias
    before = mean_lead(x, p, p)
    assert before == pytest.approx(float((g * p).sum(1).mean()), rel=1e-9)  # it is linear in the answers
    for row, entry in ((0, 0), (17, 3), (59, 1)):
        moved = p.clone()
        moved[row, entry] += 0.5
        assert mean_lead(x, moved, p) - before == pytest.approx(0.5 * float(g[row, entry]) / len(x), rel=1e-6)


def test_at_one_distance_no_answers_mislead_a_probe_more() -> None:
    """Neither ModelGuard-W's nor any of many drawn ones; label and distance are kept."""
    x, p = data()
    weight, bias = find_scores(x, p, PENALTY)
    y = find_cheapest(p, x @ weight.T + bias, 0.5, 1e-4)
    assert bool((y.argmax(1) == p.argmax(1)).all()) and float((y - p).abs().sum(1).max()) <= 0.5 + 1e-9
    ours = mean_lead(x, y, p)
    others = [find_cheapest(p, (p + 1e-6).log(), 0.5, 1e-4)]
    others += [find_cheapest(p, dirichlet(seed, len(p), p.shape[1], 0.3).double(), 0.5, 1e-4) for seed in range(50)]
    assert ours < min(mean_lead(x, other, p) for other in others) < mean_lead(x, p, p)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epsilon": -1}, "defense.epsilon"),
        ({"margin": 1.0}, "defense.margin"),
        ({"penalty": 0}, "defense.penalty must be above 0, not 0"),
        ({"images": 1}, "defense.images must be at least 2, not 1"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ProbeMisdirect(TRUNK, **options)  # type: ignore[arg-type]


def test_no_attacker_simulates_it() -> None:
    with pytest.raises(ConfigError, match="cannot be simulated by an attacker"):
        ProbeMisdirect(TRUNK).simulate(10, 0)
