"""What nine random views of an image cost as batched tensor code, and as published: PIL and torchvision, one by one.

    pytest tests/bench/test_views.py -n 0 --benchmark-enable --benchmark-only -s

Both make the views of `conf/views/stolen_encoder.yaml`. Claim: batched is at least 3 times as fast at 32 pixels and
at least 2.1 times at 64, on one core (OMP_NUM_THREADS=1). The same run checks that the views
are distributed alike: for every image, the mean and the spread, over views, of each channel's mean, standard deviation
and quartiles, of the left half against the right, of the colourfulness and of being grey. They agree to 5 standard
errors with torchvision on float images, and with PIL but for its rounding down to 256 levels after each operation.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torchvision import transforms

from fmsteal.base import paths
from fmsteal.data.digits import digits
from tests.bench.table import Row, note

VIEWS, IMAGES, TURNS = 9, 64, 7
DRAWS = 1500  # views per image for the comparison of distributions
ROUNDING = 4 / 255  # at most one level down for each of jitter's four operations
OURS = instantiate(OmegaConf.load(paths.folder("conf") / "views" / "stolen_encoder.yaml"))
PUBLISHED = transforms.Compose(
    [
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToTensor(),
    ]
)
FLOAT = transforms.Compose(PUBLISHED.transforms[:-1])


def published(images: Tensor, views: int) -> Tensor:
    """As in StolenEncoder's data set: each view from the PIL image, ``(n, views, 3, H, W)``."""
    made = []
    for pixels in images.permute(0, 2, 3, 1).numpy():
        picture = Image.fromarray(pixels)
        made.append(torch.stack([PUBLISHED(picture) for _ in range(views)]))
    return torch.stack(made)


def batched(images: Tensor, views: int) -> Tensor:
    return OURS(images.repeat_interleave(views, 0)).unflatten(0, (len(images), views))


def described(views: Tensor) -> Tensor:
    """What can be said of each view ``(n, views, 3, H, W)``: per channel, and side by side; ``(n, views, 20)``."""
    flat = views.flatten(3)
    quartiles = torch.quantile(flat, torch.tensor([0.25, 0.5, 0.75]), dim=-1).permute(1, 2, 3, 0).flatten(2)
    left, right = (half.mean((-3, -2, -1)) for half in views.chunk(2, -1))
    apart = torch.stack([(flat[:, :, a] - flat[:, :, b]).abs().mean(-1) for a, b in ((0, 1), (1, 2), (0, 2))], -1)
    grey = (apart.sum(-1) < 1e-4).float()
    return torch.cat([flat.mean(-1), flat.std(-1), quartiles, (left - right)[..., None], apart, grey[..., None]], -1)


def differences(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of two descriptions: how far means and spreads over views are apart, each with its standard error."""
    means = (ours.mean(1) - theirs.mean(1)).abs()
    spreads = (ours.std(1) - theirs.std(1)).abs()
    variance = ours.var(1) + theirs.var(1)
    fourth = sum((x - x.mean(1, keepdim=True)).pow(4).mean(1) - x.var(1) ** 2 for x in (ours, theirs))
    # The error of a spread comes from the fourth moments: views are far from normal.
    return means, (variance / DRAWS).sqrt(), spreads, (fourth / DRAWS).sqrt() / (2 * variance).sqrt().clamp(min=1e-3)


def coloured(side: int, count: int) -> Tensor:
    """Real pictures (the 8 x 8 digits of scikit-learn), tinted: channels and halves differ."""
    task = digits(size=side, train_count=512)
    pixels = torch.from_numpy(task.train.pixels[:count].copy()).float() / 255
    generator = torch.Generator().manual_seed(0)
    ink, paper = torch.rand(2, count, 3, 1, 1, generator=generator)
    return ((ink * pixels + paper * (1 - pixels)) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(("side", "claim"), [(32, 3.0), (64, 2.1)])
def test_views(side: int, claim: float, benchmark: BenchmarkFixture) -> None:
    torch.manual_seed(0)
    images = coloured(side, IMAGES)
    seconds: dict[str, list[float]] = {"published": [], "batched": []}

    def turn() -> None:
        for name, make in (("published", published), ("batched", batched)):
            began = time.perf_counter()
            made = make(images, VIEWS)
            seconds[name].append(time.perf_counter() - began)
            assert made.shape == (IMAGES, VIEWS, 3, side, side)

    benchmark.pedantic(turn, rounds=TURNS, warmup_rounds=1)
    each = {name: statistics.median(found[1:]) / IMAGES * 1e3 for name, found in seconds.items()}
    faster = statistics.median(p / b for p, b in zip(seconds["published"][1:], seconds["batched"][1:], strict=True))

    ours = described(batched(images[:4], DRAWS))
    exact = torch.stack([torch.stack([FLOAT(image / 255) for _ in range(DRAWS)]) for image in images[:4]])
    errors = []
    for theirs, rounding in ((described(exact), 0.0), (described(published(images[:4], DRAWS)), ROUNDING)):
        means, mean_error, spreads, spread_error = differences(ours, theirs)
        errors.append(max((means / mean_error).max(), (spreads / spread_error).max()))
        assert (means <= 5 * mean_error + rounding).all()
        assert (spreads <= 5 * spread_error + rounding / 2).all()
    benchmark.extra_info |= {f"{name}_ms": round(value, 3) for name, value in each.items()}
    benchmark.extra_info["faster"] = round(faster, 2)
    row = (f"{VIEWS} random views of an image of {side} pixels", "PIL and torchvision, image by image")
    same = f"distributions, to {max(errors):.1f} standard errors"
    note(Row(*row, each["published"] / 1e3, each["batched"] / 1e3, same=same, ratio=faster))
    assert faster >= claim
