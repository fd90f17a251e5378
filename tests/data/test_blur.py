"""Blurred images against torchvision and Pillow, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image, ImageFilter
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.data.blur import Blur, blur, box_blur
from tests.data.pictures import one_by_one, pictures


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_blur_is_torchvisions(radius: int) -> None:
    x, sigmas = pictures(7), torch.linspace(0.1, 2, 7)
    want = one_by_one(x, lambda image, sigma: TF.gaussian_blur(image, [2 * radius + 1] * 2, [sigma, sigma]), sigmas)
    torch.testing.assert_close(blur(x, sigmas, radius), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "taps"), [(32, 3), (64, 7), (96, 9), (224, 23)])
def test_the_blur_reaches_as_far_as_simclrs(side: int, taps: int) -> None:
    x = torch.zeros(1, 3, side, side)
    x[:, :, side // 2, side // 2] = 1
    touched = Blur(chance=1, sigma_min=2, sigma_max=2)(x)[0, 0].gt(0).any(0).sum()
    assert touched == taps


def by_pillow(images: Tensor, sigmas: Tensor) -> Tensor:
    made = []
    for image, sigma in zip((images * 255).round().byte(), sigmas.tolist(), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(sigma))
        made.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255)
    return torch.stack(made)


@pytest.mark.parametrize("side", [12, 32, 224])
def test_pillows_blur_is_pillows_but_for_its_rounding_after_each_pass(side: int) -> None:
    x, sigmas = pictures(9, side), torch.linspace(0.1, 2, 9)
    got, want = box_blur((x * 255).round() / 255, sigmas), by_pillow(x, sigmas)
    assert (got - want).abs().max() < 4 / 255 and (got - want).abs().mean() < 1 / 255
    assert (got - want).mean().abs() < 0.5 / 255


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.9, 4.0])
def test_pillows_blur_has_the_variance_that_is_asked_for(sigma: float) -> None:
    x = torch.zeros(1, 3, 65, 65, dtype=torch.float64)
    x[:, :, 32, 32] = 1
    spread = box_blur(x, torch.tensor([sigma]))[0, 0].sum(0)
    places = torch.arange(65) - 32
    assert float(spread.sum()) == pytest.approx(1)
    assert float((spread * places**2).sum()) == pytest.approx(sigma**2, rel=1e-4)


def test_pillows_kernel_is_as_wide_at_every_size() -> None:
    for side, simclr in ((32, 3), (224, 23)):
        x = torch.zeros(1, 3, side, side)
        x[:, :, side // 2, side // 2] = 1
        touched = [Blur(1, 2, 2, kernel)(x)[0, 0].gt(0).any(0).sum() for kernel in ("simclr", "pillow")]
        assert touched == [simclr, 13]
    with pytest.raises(ConfigError, match="kernel=box must be one of simclr, pillow"):
        Blur(kernel="box")  # type: ignore[arg-type]
