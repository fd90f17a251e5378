"""Crops and mirror images against torchvision, one image at a time, and the draws against torchvision's."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy import stats
from torchvision import transforms

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError
from fmsteal.data.crops import Flip, PadCrop, ResizedCrop, crop_and_resize, pad_crop


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 24), (64, 64)])
@pytest.mark.parametrize("antialias", [False, True])
def test_resized_crop_is_torchvisions(height: int, width: int, antialias: bool) -> None:
    """With smoothing or without: a crop is never made smaller."""
    torch.manual_seed(0)
    x = torch.rand(40, 3, height, width)
    boxes = ResizedCrop(0.08).boxes(40, height, width)
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([height - 1, width - 1, 1, 1])
    want = [
        TF.resized_crop(image, *(int(v) for v in box), [height, width], antialias=antialias)
        for image, box in zip(x, boxes, strict=True)
    ]
    torch.testing.assert_close(crop_and_resize(x, boxes), torch.stack(want), atol=2e-5, rtol=0)
    torch.testing.assert_close(crop_and_resize(x[:1], boxes[:1]), x[:1], atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("smallest", "stretch", "height", "width"),
    [(0.2, 4 / 3, 32, 32), (0.9, 4 / 3, 32, 32), (0.75, 4 / 3, 48, 64), (0.95, 1.0, 20, 40), (0.9, 1.1, 40, 20)],
)
def test_boxes_are_drawn_like_torchvisions(smallest: float, stretch: float, height: int, width: int) -> None:
    torch.manual_seed(0)
    x, count = torch.empty(3, height, width), 3000
    boxes = ResizedCrop(smallest, stretch).boxes(count, height, width)
    want = [transforms.RandomResizedCrop.get_params(x, [smallest, 1.0], [1 / stretch, stretch]) for _ in range(count)]
    theirs = torch.tensor(want)
    for column in range(4):
        assert stats.ks_2samp(boxes[:, column], theirs[:, column], method="asymp").pvalue > 1e-4
    assert stats.ks_2samp(boxes[:, 2] / boxes[:, 3], theirs[:, 2] / theirs[:, 3], method="asymp").pvalue > 1e-4
    assert torch.equal(boxes, boxes.round())
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([height, width])).all()


@pytest.mark.parametrize(
    ("share", "side", "pixels"), [(0.9, 32, 30), (0.75, 32, 28), (0.9, 224, 213), (0.75, 224, 194)]
)
def test_a_fixed_share_makes_every_crop_square_and_of_that_area(share: float, side: int, pixels: int) -> None:
    torch.manual_seed(0)
    boxes = ResizedCrop(share, 1, share).boxes(3000, side, side)
    assert (boxes[:, 2:] == pixels).all() and abs(pixels - share**0.5 * side) <= 0.5
    drawn = [transforms.RandomResizedCrop.get_params(torch.empty(3, side, side), [share, share], [1, 1]) for _ in "ab"]
    assert {(h, w) for _, _, h, w in drawn} == {(pixels, pixels)}
    places = boxes[:, 0] * (side - pixels + 1) + boxes[:, 1]
    seen = places.long().bincount(minlength=(side - pixels + 1) ** 2)
    assert stats.chisquare(seen).pvalue > 1e-4


@pytest.mark.parametrize(("view", "pixels"), [("rda_prototype", 30), ("rda_thief", 28), ("stolen_encoder_rda", 28)])
def test_rdas_views_are_square_crops_of_a_fixed_share(view: str, pixels: int) -> None:
    crop = instantiate(OmegaConf.load(paths.folder("conf") / "views" / f"{view}.yaml")).steps[0]
    assert (crop.boxes(500, 32, 32)[:, 2:] == pixels).all()


def test_a_largest_share_below_the_smallest_is_refused_and_the_whole_image_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"largest=0\.5 must lie between 0\.8 and 1"):
        ResizedCrop(0.8, 1, 0.5)
    assert ResizedCrop(0.2).identity() == {"smallest": 0.2, "stretch": 4 / 3}
    assert ResizedCrop(0.9, 1, 0.9).identity() == {"smallest": 0.9, "stretch": 1, "largest": 0.9}


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 4), (9, 6, 2), (5, 5, 0)])
def test_pad_crop_is_torchvisions(height: int, width: int, padding: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(11, 3, height, width)
    offsets = torch.randint(2 * padding + 1, (11, 2))
    want = [
        TF.crop(TF.pad(image, [padding] * 4), top, left, height, width)
        for image, (top, left) in zip(x, offsets.tolist(), strict=True)
    ]
    assert torch.equal(pad_crop(x, offsets, padding), torch.stack(want))


def test_shifts_are_uniform_and_each_images_own() -> None:
    torch.manual_seed(0)
    x = torch.zeros(4050, 3, 9, 9)
    x[:, :, 4, 4] = 1
    where = PadCrop(4)(x)[:, 0].flatten(1)
    assert (where.sum(1) == 1).all()
    assert stats.chisquare(where.sum(0)).pvalue > 1e-4  # the 81 places


def test_flips_are_exact_and_each_images_own() -> None:
    torch.manual_seed(0)
    x = torch.rand(2000, 3, 4, 5)
    y = Flip(0.3)(x)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert ((y == x).flatten(1).all(1) ^ mirrored).all()
    assert stats.binomtest(int(mirrored.sum()), 2000, 0.3).pvalue > 1e-4
    assert torch.equal(Flip(1)(x[:1]), x[:1].flip(-1)) and torch.equal(Flip(0)(x[:1]), x[:1])
