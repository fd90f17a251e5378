"""The stolen encoder: as wide as the answers it is trained on, by the way that was chosen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fmsteal.base.errors import ConfigError
from fmsteal.networks.backbones import Backbone, BackboneSpec
from fmsteal.training.encoder import Encoder

IMAGES = torch.rand(3, 3, 32, 32)


def backbone(model: str = "resnet10t", size: int = 64) -> Backbone:
    return BackboneSpec(model, size=size, normalise="none").build(pretrained=False)


def test_equal_widths_need_nothing() -> None:
    trunk = backbone()
    for match in ("pool", "linear"):
        encoder = Encoder(trunk, 512, match).eval()
        torch.testing.assert_close(encoder(IMAGES), trunk(IMAGES), rtol=0, atol=0)
        assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in trunk.parameters())


def test_pooling_averages_the_upper_and_the_lower_half_of_the_last_map() -> None:
    encoder = Encoder(backbone(), 1024, "pool").eval()
    trunk = encoder.backbone
    features = trunk.trunk.forward_features(trunk.preprocess(IMAGES))  # type: ignore[operator]
    assert features.shape == (3, 512, 2, 2)
    by_hand = torch.stack([features[:, :, 0].mean(-1), features[:, :, 1].mean(-1)], dim=2).flatten(1)
    torch.testing.assert_close(encoder(IMAGES), by_hand)
    torch.testing.assert_close(encoder(IMAGES).view(3, 512, 2).mean(2), trunk(IMAGES))


def test_a_linear_layer_is_the_thiefs_own() -> None:
    encoder = Encoder(backbone(), 100, "linear").eval()
    projector = encoder.projector
    assert isinstance(projector, torch.nn.Linear)
    torch.testing.assert_close(encoder(IMAGES), F.linear(encoder.backbone(IMAGES), projector.weight, projector.bias))
    assert {"projector.weight", "projector.bias"} <= set(encoder.state_dict())


@pytest.mark.parametrize(("model", "width"), [("resnet10t", 700), ("resnet10t", 100), ("vit_tiny_patch16_224", 384)])
def test_what_cannot_be_pooled_is_refused_with_the_way_round(model: str, width: int) -> None:
    with pytest.raises(ConfigError, match=r"thief\.match=linear"):
        Encoder(backbone(model), width, "pool")


def test_looking_for_a_map_leaves_the_mode_as_it_was() -> None:
    trunk = backbone().train()
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    assert Encoder(trunk, 1024, "pool").backbone.training
    assert all(torch.equal(v, before[k]) for k, v in trunk.state_dict().items())
