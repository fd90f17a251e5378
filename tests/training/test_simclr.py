"""SimCLR's module: which images are paired, what is compared, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fmsteal.data.augment import RandomAffine
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.recipe import Recipe
from fmsteal.training.simclr import Projected, SimCLRModule

RECIPE = Recipe(epochs=1, batch_size=4, optimizer="sgd", lr=0.1)


def as_a_loop(one: torch.Tensor, other: torch.Tensor, temperature: float) -> float:
    """Equation 1 of the paper, embedding by embedding, in double precision."""
    z = [row / row.norm() for row in torch.cat([one, other]).double()]
    n, total = len(one), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        against = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / against)
    return total / (2 * n)


class Shifted(nn.Module):
    """Views that tell which copy of an image they are of: the second half of the batch is turned round."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        one, other = images.float().chunk(2)
        assert torch.equal(one, other)
        return torch.cat([one, other.flip(-1)])


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_loss_is_the_papers_over_both_views_in_one_pass(n: int, temperature: float) -> None:
    passes = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 5))
    net.register_forward_hook(lambda _m, given, _out: passes.append(len(given[0])))
    images = torch.randint(0, 256, (n, 3, 3, 3), dtype=torch.uint8)
    loss, logs = SimCLRModule(net, Shifted(), temperature, RECIPE, 0).loss((images, torch.zeros(n)))
    assert passes == [2 * n] and loss.ndim == 0 and not logs
    with torch.no_grad():
        want = as_a_loop(net(images.float()), net(images.float().flip(-1)), temperature)
    assert loss.item() == pytest.approx(want, rel=1e-5, abs=1e-6)


def test_views_are_drawn_anew_for_each_image_and_each_side() -> None:
    seen: list[torch.Tensor] = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    net.register_forward_hook(lambda _m, given, _out: seen.append(given[0]))
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8).expand(5, -1, -1, -1)
    module = SimCLRModule(net, RandomAffine(shift=0.3, rotate=20), 0.5, RECIPE, 0)
    module.loss((images, torch.zeros(5)))
    assert len(seen[0].flatten(1).unique(dim=0)) == 10 and seen[0].max() <= 1


def test_trunk_and_head_are_both_trained_and_the_head_is_as_wide_as_the_trunk() -> None:
    spec = BackboneSpec("resnet18", size=32, stem="small", options={"layers": [1, 1, 1, 1], "channels": [8] * 4})
    net = Projected(spec.build(pretrained=False), 6)
    assert [tuple(p.shape) for p in net.head.parameters()] == [(8, 8), (8,), (6, 8), (6,)]
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    loss, _ = SimCLRModule(net, RandomAffine(shift=0.2), 0.5, RECIPE, 0).loss((images, torch.zeros(5)))
    loss.backward()
    trunk = [p.grad for p in net.backbone.parameters()]
    assert all(g is not None for g in trunk) and sum(bool(g.abs().sum() > 0) for g in trunk if g is not None) > 10
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.head[2:].parameters())
