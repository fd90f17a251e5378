"""Adversarially trained victims: the step's loss against the paper's by hand, what they withstand, what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.training.adversarial import AdversarialModule
from fmsteal.victims.adversarial import AdversarialVictim
from tests.support.composing import composed
from tests.support.small_task import TASK, context

ROBUST = "victim=resnet10_small_adversarial"


def victim(*overrides: str) -> AdversarialVictim:
    # with 4 channels oneDNN 3.12 (torch 2.14) writes past its memory on CPUs without AVX-512
    made = build.make(composed("victim.backbone.options={layers: [1,1,1,1], channels: [8,8,8,8]}", *overrides).victim)
    assert isinstance(made, AdversarialVictim)
    return made


@pytest.mark.parametrize("steps", [1, 3])
def test_a_steps_loss_is_that_of_examples_made_by_hand(steps: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3))
    recipe = victim(ROBUST).recipe
    eps, step = 0.1, 0.05
    module = AdversarialModule(net, F.cross_entropy, recipe, 0, eps, step, steps)
    module.augment = None
    pixels, labels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8), torch.arange(5) % 3
    torch.manual_seed(3)
    loss, _ = module.loss((pixels, labels))
    torch.manual_seed(3)
    images = pixels.float() / 255
    x = (images + eps * (2 * torch.rand_like(images) - 1)).clip(0, 1)
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        F.cross_entropy(net(leaf), labels).backward()
        assert leaf.grad is not None
        x = (images + (x + step * leaf.grad.sign() - images).clip(-eps, eps)).clip(0, 1)
    torch.testing.assert_close(loss, F.cross_entropy(net(x), labels), rtol=1e-5, atol=1e-6)
    net.zero_grad()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_it_is_another_victim_than_the_plain_one_and_its_step_follows_from_the_radius(tmp_path: Path) -> None:
    plain = build.make(composed("victim=resnet10_small").victim)
    one, ten = victim(ROBUST), victim(ROBUST, "victim.steps=10")
    assert one._step == pytest.approx(10 / 255) and ten._step == pytest.approx(2 / 255)
    assert victim(ROBUST, "victim.step=0.01")._step == 0.01
    assert {k: v for k, v in one.identity().items() if k not in ("adversarial", "backbone")} == {
        k: v for k, v in plain.identity().items() if k != "backbone"
    }
    assert one.identity() != ten.identity() != plain.identity()
    ctx = context(tmp_path)
    small = partial(victim, "recipes.scratch.epochs=1", "recipes.scratch.min_steps=0")
    first = small(ROBUST).prepare(TASK, ctx)
    assert small(ROBUST).prepare(TASK, ctx).key == first.key
    assert small(ROBUST, "victim.eps=0.1").prepare(TASK, ctx).key != first.key
    assert np.isfinite(first.model(torch.from_numpy(TASK.test.pixels[:2])).detach().numpy()).all()


def test_what_cannot_be_trained_so_is_refused() -> None:
    for overrides, said in (
        (("victim.adaptation=probe", "victim.backbone.weights=hub"), "victim.adaptation=probe freezes the trunk"),
        (("victim.eps=0",), "needs victim.eps above 0"),
        (("victim.steps=0",), "victim.steps of at least 1"),
        (("victim.step=-1",), r"a victim\.step above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            victim(ROBUST, *overrides)
