"""Batches of one image: refused where a BatchNorm would train on them, before anything is paid; valid elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Images, Task
from fmsteal.data.loader import TensorLoader
from fmsteal.job.batches import require_batches
from fmsteal.job.parts import Parts
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.sweep.servable import require_servable
from fmsteal.training.batches import require_whole
from tests.support.composing import SMALL, TINY, composed

VIT = ("thief.backbone.model=vit_tiny_patch16_224", "thief.backbone.size=32", "+thief.backbone.options.depth=1")
EMBED = (
    "task=embed", "thief=encoder_resnet10", "backbone@thief.backbone=resnet10t", f"thief.{TINY}", "trainer=cpu",
    "tracker=none",
)  # fmt: skip


def test_which_trunks_have_a_batch_norm() -> None:
    found = {name: BackboneSpec(name).has_batch_norm for name in ("resnet10t", "vgg16", "vgg16_bn", "convnext_atto")}
    assert found == {"resnet10t": True, "vgg16": False, "vgg16_bn": True, "convnext_atto": False}


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ((*SMALL, "budget.queries=1"), r"budget\.queries=1: a batch would be a single image.*thief\.adaptation=probe"),
        ((*SMALL, "thief.recipe.batch_size=1"), r"thief\.recipe\.batch_size=1: .* larger thief\.recipe\.batch_size"),
        ((*SMALL, "victim.recipe.batch_size=1"), r"victim\.recipe\.batch_size=1: .*victim\.adaptation=probe"),
        ((*EMBED, "attack=repeat_average", "budget.queries=9"), r"budget\.queries=9, 5 about each image: .*"),
        ((*EMBED, "attack=direct", "budget.queries=1"), r"budget\.queries=1: a batch would"),
        ((*EMBED, "attack=direct", "attack.recipe.batch_size=1"), r"attack\.recipe\.batch_size=1: a batch would"),
    ],
)  # fmt: skip
def test_a_batch_of_one_is_refused_when_a_sweep_is_composed(overrides: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        require_servable(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("budget.queries=1",),  # the default: a bare head
        (*SMALL, *VIT, "thief.recipe.batch_size=1", "budget.queries=1"),
        (*SMALL, "budget.queries=65", "thief.recipe.batch_size=64"),
        (*SMALL, "budget.queries=2", "thief.recipe.batch_size=64"),
    ],
)
def test_what_works_with_one_image_is_not_refused(overrides: tuple[str, ...]) -> None:
    require_batches(Parts.of(composed("trainer=cpu", "tracker=none", *overrides)))


def test_a_single_image_of_pool_or_training_set_counts_too() -> None:
    parts = Parts.of(composed(*SMALL))
    one = Images(np.zeros((1, 3, 8, 8), np.uint8), "one")
    with pytest.raises(ConfigError, match=r"budget\.queries=100: a batch would be"):
        require_batches(parts, pool=one)
    with pytest.raises(ConfigError, match=r"data\.train_count=1: a batch would be"):
        require_batches(parts, Task(one, one))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 64, 65])
def test_a_training_is_refused_exactly_if_a_batch_of_it_is_one_image(count: int, size: int, whole: bool) -> None:
    loader = TensorLoader(torch.randn(count, 4), torch.zeros(count), size, 0, whole=whole)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    fails = False
    for inputs, _ in loader:
        try:
            net(inputs)
        except ValueError:  # torch's own: more than 1 value per channel
            fails = True
    if fails:
        with pytest.raises(ConfigError, match="A batch of this training is a single image"):
            require_whole(net, loader)
    else:
        require_whole(net, loader)
    require_whole(net.eval(), loader)
    require_whole(nn.Linear(4, 3), loader)
