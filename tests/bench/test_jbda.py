"""What a round of JBDA costs on a small ResNet of 32 pixels: 128 images' steps, or 24 images' walks (3 each, 8 steps).

    OMP_NUM_THREADS=1 pytest tests/bench/test_jbda.py -n 0 --benchmark-enable --benchmark-only -s

Beside the published form, restated: a forward and a backward pass for each image and step. Both take turns on the same
images and make the same, but for signs of gradients that are nearly zero (one pixel in a thousand at most); the figure
is the median of the paired ratios. Claims: 70 % of the known ratios (6.5 and 6.0).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture

from fmsteal.attacks.jbda import JBDA, Augmentation
from fmsteal.attacks.jbda_tr import JBDATargeted
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.base.seeds import seed_block
from fmsteal.data.images import Pixels
from tests.bench.turns import paired

with seed_block("bench"):
    MODEL = timm.create_model("resnet10t", num_classes=10).eval()
PIXELS = np.random.default_rng(0).integers(0, 256, (128, 3, 32, 32), dtype=np.uint8)
ANSWERS = torch.randn(128, 10, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
SAME = 0.999  # of the pixels


def one_step_each(pixels: Pixels) -> Pixels:
    made = np.empty_like(pixels)
    for row, image in enumerate(pixels):
        x = (torch.from_numpy(image).float() / 255)[None].requires_grad_()
        MODEL(x)[0, int(ANSWERS[row].argmax())].backward()
        made[row] = ((x + 0.1 * x.grad.sign()).clamp(0, 1) * 255).round().detach()[0].numpy()
    return made


def three_walks_each(pixels: Pixels) -> Pixels:
    targets = np.random.default_rng(2).integers(10, size=(8, 3 * len(pixels)))
    made = []
    for row in range(3 * len(pixels)):
        start = (torch.from_numpy(pixels[row // 3]).float() / 255)[None]
        x = start.clone()
        for target in targets[:, row]:
            x = x.detach().requires_grad_()
            F.cross_entropy(MODEL(x), torch.tensor([target])).backward()
            moved = (x - 1.85 * 0.1 / 8 * x.grad.sign() - start).clamp(-0.1, 0.1)
            x = (start + moved).clamp(0, 1)
        made.append((x * 255).round().detach()[0].numpy().astype(np.uint8))
    return np.stack(made)


@pytest.mark.parametrize(
    ("attack", "published", "count", "claim"),
    [
        (JBDA(selection=random, loss=soft_cross_entropy, seeds=1), one_step_each, 128, 4.5),
        (JBDATargeted(selection=random, loss=soft_cross_entropy, seeds=1), three_walks_each, 24, 4.2),
    ],
    ids=["jbda", "jbda_tr"],
)
def test_jbda(
    benchmark: BenchmarkFixture, attack: Augmentation, published: Callable[[Pixels], Pixels], count: int, claim: float
) -> None:
    pixels, answers = PIXELS[:count], ANSWERS[:count]
    for parameter in MODEL.parameters():
        parameter.requires_grad_(False)  # for both: the published form else pays for gradients of the weights too

    def same(theirs: Pixels, mine: Pixels) -> None:
        assert (theirs == mine).mean() >= SAME

    def ours() -> Pixels:
        return attack.make_images(MODEL, pixels, answers, np.random.default_rng(2), 0)

    row = (f"{type(attack).__name__}, {count} images, one backward pass", "image by image", f"{SAME:.1%} of pixels")
    paired(benchmark, lambda: published(pixels), ours, same, claim, turns=3, row=row)
