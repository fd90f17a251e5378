"""D-DAE's restorer: against a plain form of the published network, and each row by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmsteal.attacks.ddae import Restorer, measure_l1
from fmsteal.config import build
from tests.support.composing import composed
from tests.support.simplex import dirichlet


@pytest.mark.parametrize(
    ("classes", "hidden"), [(4, (128, 64)), (10, (128, 64)), (67, (1024, 512)), (256, (2048, 1024))]
)
def test_the_restorer_is_the_published_network(classes: int, hidden: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, rows = Restorer(classes), dirichlet(0, 6, classes)
    linear = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [*hidden, classes]
    plain = rows
    for layer in linear:  # BatchNorm of a fresh layer, in train mode: each column to mean 0 and variance 1
        plain = plain @ layer.weight.T + layer.bias
        plain = (plain - plain.mean(0)) / (plain.var(0, unbiased=False) + 1e-5).sqrt()
        plain = F.leaky_relu(plain, 0.2)
    torch.testing.assert_close(net(rows), plain.exp() / plain.exp().sum(1, keepdim=True), atol=1e-4, rtol=1e-4)


def test_an_answer_is_restored_by_itself() -> None:
    net, rows = Restorer(5, [8, 8]), dirichlet(0, 20, 5)
    net(rows)  # moves BatchNorm's statistics
    net.eval()
    torch.testing.assert_close(net(rows)[:3], net(rows[:3]))
    torch.testing.assert_close(net(rows).sum(1), torch.ones(20))


def test_the_loss_is_the_mean_l1_distance() -> None:
    one, other = dirichlet(0, 7, 3), dirichlet(1, 7, 3)
    torch.testing.assert_close(measure_l1(one, other).item(), float(np.abs((one - other).numpy()).sum(1).mean()))


def test_the_recipe_is_the_published_one() -> None:
    recipe = build.make(composed("attack=ddae", "defense=rounding").attack).restorer
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer) == (200, 1024, "sgd")
    assert [recipe.lr * recipe.lr_factor(epoch) for epoch in (0, 99, 100, 199)] == [0.01, 0.01, 0.005, 0.005]
