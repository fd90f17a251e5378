"""Every file of conf/views: different views of n images, in range, reproducible, whatever the images' type."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from fmsteal.base import paths
from fmsteal.data.crops import Flip
from fmsteal.data.random_views import Views

FILES = sorted(paths.folder("conf").glob("views/*.yaml"))
CROPS = "rda_clip_prototype"  # crops of a fixed share alone: of small images there are few
RANDOM = [file for file in FILES if file.stem not in ("none", CROPS)]


def views(name: str) -> Views:
    made = instantiate(OmegaConf.load(paths.folder("conf") / "views" / f"{name}.yaml"))
    assert isinstance(made, Views)
    return made


def pictures(count: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("file", RANDOM, ids=lambda p: p.stem)
def test_every_image_has_its_own_view(file: object) -> None:
    torch.manual_seed(0)
    made = views(file.stem)  # type: ignore[attr-defined]
    x = pictures(1).repeat(300, 1, 1, 1)  # more than one part of the batch
    seen = made(x)
    assert seen.shape == x.shape and seen.dtype == torch.float32
    assert seen.min() >= 0 and seen.max() <= 1
    different = len(seen.flatten(1).unique(dim=0))
    assert different > 200, different  # some are hit by no step, some are grey twins


@pytest.mark.parametrize("file", RANDOM, ids=lambda p: p.stem)
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("side", [8, 33])
def test_views_depend_on_the_seed_and_not_on_the_images_type(file: object, count: int, side: int) -> None:
    made, x = views(file.stem), pictures(count, side)  # type: ignore[attr-defined]
    seen = []
    for images in (x, x.float() / 255, x):
        torch.manual_seed(3)
        seen.append(made(images))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert any(not torch.equal(made(x), seen[0]) for _ in range(20))


@pytest.mark.parametrize("file", RANDOM, ids=lambda p: p.stem)
def test_grey_images_stay_grey(file: object) -> None:
    torch.manual_seed(0)
    x = pictures(40)[:, :1].expand(-1, 3, -1, -1)
    seen = views(file.stem)(x)  # type: ignore[attr-defined]
    assert (seen - seen[:, :1]).abs().max() < 1e-5


def test_no_step_changes_nothing() -> None:
    x = pictures(5)
    assert torch.equal(views("none")(x), x.float() / 255)
    assert views("none")(x[:0]).shape == (0, 3, 32, 32)


def test_images_are_left_alone_and_carry_no_gradient() -> None:
    x = (pictures(9).float() / 255).requires_grad_()
    before = x.detach().clone()
    assert not views("rda_thief")(x).requires_grad
    assert torch.equal(x, before)


def test_the_identity_names_every_step_and_setting() -> None:
    assert views("cont_steal").identity() == [
        {"class": "RandAugment", "settings": {"operations": 2, "magnitude": 14}},
        {"class": "PadCrop", "settings": {"padding": 4}},
        {"class": "Flip", "settings": {"chance": 0.5}},
    ]
    assert views("none").identity() == []
    assert Views([Flip(0.5)]).identity() != Views([Flip(0.4)]).identity()
    assert views("rda_thief").identity() == views("stolen_encoder_rda").identity() != views("rda_prototype").identity()


def test_crops_of_a_fixed_share_are_as_many_as_their_places() -> None:
    made = views(CROPS)
    torch.manual_seed(0)
    assert [len(made(pictures(1, side).repeat(300, 1, 1, 1)).flatten(1).unique(dim=0)) for side in (8, 32)] == [1, 9]
    large = pictures(1, 224).repeat(20, 1, 1, 1)
    seen = made(large)
    assert len(seen.flatten(1).unique(dim=0)) > 10 and seen.min() >= 0 and seen.max() <= 1
    torch.manual_seed(1)
    again = made(large)
    torch.manual_seed(1)
    assert torch.equal(made(large.float() / 255), again)
