"""Operations are those that papers and timm state."""

from __future__ import annotations

import pytest

from fmsteal.sweep.flops import count
from tests.support.composing import composed


@pytest.mark.parametrize(("thief", "macs", "width"), [("resnet50", 4.09e9, 2048), ("vit_s16", 4.6e9, 384)])
def test_published_networks_are_counted_within_some_per_cent(thief: str, macs: float, width: int) -> None:
    found = count(composed(f"thief={thief}", "thief.backbone.size=224").thief.backbone)
    assert found is not None and found.width == width and found.flops == pytest.approx(2 * macs, rel=0.05)


def test_what_cannot_be_made_is_not_counted() -> None:
    node = composed("thief=resnet50").thief.backbone
    node.model = "none_such"
    assert count(node) is None
