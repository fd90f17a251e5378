from __future__ import annotations

import math

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torchvision.transforms import InterpolationMode

from fmsteal.data.augment import RandomAffine

IMAGE = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)), 3)


@pytest.mark.parametrize("angle", [-20.0, 0.0, 15.0])
@pytest.mark.parametrize("size", [0.8, 1.0, 1.25])
def test_one_map_against_torchvision(angle: float, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's affine (shift in pixels, clockwise degrees) gives the same picture."""
    dx, dy = 3, -2
    c, s = math.cos(math.radians(angle)) / size, math.sin(math.radians(angle)) / size
    shift = torch.tensor([-2 * dx / 32, -2 * dy / 32])
    linear = torch.tensor([[c, s], [-s, c]])
    matrix = torch.cat([linear, (linear @ shift)[:, None]], 1)[None]
    augment = RandomAffine(rotate=1)
    monkeypatch.setattr(augment, "matrices", lambda count, device: matrix)
    want = TF.affine(IMAGE, angle, [dx, dy], size, [0.0], InterpolationMode.BILINEAR)
    torch.testing.assert_close(augment(IMAGE), want, atol=1e-4, rtol=1e-4)


def test_draws_are_per_image_and_within_bounds() -> None:
    augment = RandomAffine(shift=0.1, rotate=20, scale=0.2, flip=0.5)
    torch.manual_seed(0)
    maps = augment.matrices(4000)
    determinant = maps[:, 0, 0] * maps[:, 1, 1] - maps[:, 0, 1] * maps[:, 1, 0]
    assert 0.45 < (determinant < 0).float().mean() < 0.55  # mirrored half of the time
    size = determinant.abs().rsqrt()
    assert 0.8 <= size.min() < 0.82 and 1.18 < size.max() <= 1.2 + 1e-4
    angle = torch.atan2(maps[:, 1, 0], maps[:, 1, 1]).abs().rad2deg()
    assert angle.max() <= 20 + 1e-3 and angle.mean() == pytest.approx(10, abs=0.5)
    assert maps[:, :, 2].abs().max() <= 0.2 and len(maps[:, 0, 2].unique()) > 3900


def test_doing_nothing_changes_nothing() -> None:
    x = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(RandomAffine()(x), x.float() / 255, rtol=0, atol=0)


def test_flip_alone_is_exact_and_happens_as_often_as_asked() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 3, 4, 4)
    y = RandomAffine(flip=0.3)(x)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert ((y == x).flatten(1).all(1) ^ mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.3, abs=0.04)
