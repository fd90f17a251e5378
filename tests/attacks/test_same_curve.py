"""Training by each encoder attack against its plain form: a bare loop over samples, on the same fixed views."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.config import build
from fmsteal.data.images import Picked
from fmsteal.data.loader import TensorLoader
from fmsteal.training.recipe import StealModule
from tests.attacks.published import (
    cont_steal,
    infonce_loop,
    mse_loop,
    rda,
    stolen_encoder,
    stolen_encoder_rda,
    two_view,
)
from tests.support.composing import composed
from tests.support.small_task import context

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (28, 3, 8, 8), dtype=np.uint8)
TARGETS = torch.from_numpy(RANDOM.normal(size=(28, 6)).astype(np.float32))
EPOCHS, BATCH = 5, 7  # 20 steps


class Fixed(nn.Module):
    """A view that is no matter of chance: the mirror image, darker."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() / 255).flip(-1) * 0.8


class Small(nn.Module):
    """A network with BatchNorm, so that what goes through it together matters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.float() / 255 if images.dtype == torch.uint8 else images)


Plain = Callable[[nn.Module, Tensor, Tensor], Tensor]
CASES: dict[str, tuple[tuple[str, ...], Plain]] = {
    **{
        f"stolen_encoder k={k} {distance}": (
            ("attack=stolen_encoder", f"attack.k={k}", f"attack.distance={distance}"),
            lambda net, x, v, k=k, d=distance: stolen_encoder(
                net(x), torch.stack([net(Fixed()(x)) for _ in range(k)]) if k else torch.zeros(0, len(x), 6), v, 20.0, d
            ),
        )
        for k, distance in ((0, "l2"), (1, "l2"), (3, "l2"), (1, "l1"), (1, "cosine"))
    },
    "stolen_encoder_rda": (
        ("attack=stolen_encoder_rda",),
        lambda net, x, v: stolen_encoder_rda(net(x), net(Fixed()(x))[None], v, 20.0),
    ),
    "direct mse": (("attack=direct",), lambda net, x, v: mse_loop(net(x), v)),
    "direct infonce": (("attack=direct", "attack/loss=infonce"), lambda net, x, v: infonce_loop(net(x), v, 0.07)),
    "cont_steal": (("attack=cont_steal",), lambda net, x, v: cont_steal(net(x), v, 0.5)),
    "cont_steal_two_view": (("attack=cont_steal_two_view",), lambda net, x, v: two_view(net(x), v, 0.07, "victim")),
    "rda": (
        ("attack=rda", "attack.patches=2"),
        lambda net, x, v: rda(torch.stack([net(Fixed()(x)) for _ in range(2)]), v, 0.07, 1.0, 1.0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_of_the_module_are_twenty_of_the_plain_loop(case: str, tmp_path: Path) -> None:
    overrides, plain = CASES[case]
    small = (f"attack.recipe.epochs={EPOCHS}", f"attack.recipe.batch_size={BATCH}", "attack.recipe.lr=1e-3")
    attack = build.make(composed("task=embed", *overrides, *small).attack)
    if hasattr(attack, "views"):
        object.__setattr__(attack, "views", Fixed())
    torch.manual_seed(0)
    net, twin = (copy.deepcopy(start) for start in [Small()] * 2)
    loader = TensorLoader(Picked(PIXELS, np.arange(28)), F.normalize(TARGETS), BATCH, seed=3, whole=True)
    module = attack.module(net, attack.recipe, 0)
    ours = recorded(module, loader, tmp_path)

    optimizer = optimizer_of(attack.recipe, twin)
    curve = []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for images, targets in loader:
            loss = plain(twin, images, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    assert len(ours) == 20
    np.testing.assert_allclose(ours, curve, rtol=1e-4, atol=1e-4)
    assert abs(curve[-1] - curve[0]) > 1e-3, "the curve moves"


def optimizer_of(recipe: Any, net: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    assert recipe.optimizer == "adam"
    return torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def recorded(module: StealModule, loader: TensorLoader, folder: Path) -> list[float]:
    """The loss of every step of a real fit."""
    seen: list[float] = []
    step = module.training_step

    def training_step(batch: Any, batch_idx: int) -> Tensor:
        loss = step(batch, batch_idx)
        seen.append(loss.item())
        return loss

    module.training_step = training_step  # type: ignore[method-assign]
    ctx = context(folder)
    ctx.training.fit(module, loader, stage="thief", scratch=folder, tracker=ctx.tracker, progress=ctx.progress)
    return seen
