"""What DFAL's DeepFool costs on a small ResNet: 64 images of 32 pixels, ten classes.

    OMP_NUM_THREADS=2 pytest tests/bench/test_deepfool.py -n 0 --benchmark-enable --benchmark-only -s

Beside the textbook's loop, image by image and class by class. Both take turns on the same images and must find the same
norms; the figure is the median of the paired ratios. Claim: 3 times as fast.
"""

from __future__ import annotations

import math
from functools import partial

import timm
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from fmsteal.attacks.deepfool import distances
from fmsteal.base.seeds import seed_block
from tests.bench.turns import paired

with seed_block("bench"):
    MODEL = timm.create_model("resnet10t", num_classes=10).eval()
IMAGES = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def one_by_one() -> Tensor:
    """Algorithm 2 of the paper with the authors' overshoot."""
    norms = []
    for image in IMAGES:
        with torch.no_grad():
            order = MODEL(image[None])[0].argsort(descending=True).tolist()
        total = torch.zeros_like(image)
        for _ in range(20):
            x = (image + 1.02 * total).requires_grad_()
            f = MODEL(x[None])[0]
            if int(f.argmax()) != order[0]:
                break
            (own,) = torch.autograd.grad(f[order[0]], x, retain_graph=True)
            best, step = math.inf, torch.zeros_like(image)
            for k in order[1:]:
                (other,) = torch.autograd.grad(f[k], x, retain_graph=True)
                w, gap = other - own, float((f[k] - f[order[0]]).detach().abs())
                if gap / float(w.norm()) < best:
                    best, step = gap / float(w.norm()), gap / float(w.norm()) ** 2 * w
            total = total + step
        norms.append(1.02 * total.norm())
    return torch.stack(norms)


def test_deepfool(benchmark: BenchmarkFixture) -> None:
    same = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-4)
    row = ("DeepFool, a batch at once", "image by image", "distances, 1e-3")
    paired(benchmark, one_by_one, lambda: distances(MODEL, IMAGES), same, claim=3, turns=3, row=row)
