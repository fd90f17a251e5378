"""JBDA and its targeted kin: each image's step against a loop of its own, what is asked is what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks import asked_views, jbda
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.jbda import JBDA
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random as drawn
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.networks.backbones import Backbone
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget
from fmsteal.training import inference, learners
from tests.support.colour_api import CLASSES, POOL, QUICK, killed_and_again, oracle_for, same_weights, steal
from tests.support.composing import composed
from tests.support.small_task import context


class Curved(nn.Module):
    """A small network, smooth, so that few gradients are zero."""

    def __init__(self, size: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.LazyLinear(CLASSES)
            )
            self.layers(torch.rand(4, 3, size, size))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.float() / 255 if images.dtype == torch.uint8 else images)


def answers_for(n: int) -> Tensor:
    return torch.rand(n, CLASSES, generator=torch.Generator().manual_seed(n)).softmax(1)


def stepped(model: nn.Module, image: np.ndarray, label: int, direction: str, step: float) -> np.ndarray:
    """One image, straight from the formula."""
    x = (torch.from_numpy(image).float() / 255)[None].requires_grad_(True)
    z = model(x)[0]
    of = z[label] if direction == "logit" else torch.log(torch.exp(z).sum()) - z[label]
    of.backward()
    out = np.empty_like(image)
    for place in np.ndindex(*image.shape):
        moved = float(x.detach()[0][place]) + step * float(np.sign(float(x.grad[0][place])))
        out[place] = round(255 * min(1.0, max(0.0, moved)))
    return out


@pytest.mark.parametrize("direction", ["logit", "loss"])
@pytest.mark.parametrize(("n", "batch"), [(1, 32), (7, 32), (7, 3)])
def test_each_image_steps_as_it_would_alone(
    direction: Any, n: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jbda, "GRADIENT_BATCH", batch)
    model, pixels, answers = Curved(8), POOL.pixels[:n, :, :8, :8].copy(), answers_for(n)
    attack = JBDA(selection=drawn, loss=soft_cross_entropy, seeds=3, step=0.0981, direction=direction)
    made = attack.make_images(model, pixels, answers, np.random.default_rng(0), 0)
    assert made.dtype == np.uint8 and not np.array_equal(made, pixels)
    for image, new, answer in zip(pixels, made, answers, strict=True):
        np.testing.assert_array_equal(new, stepped(model, image, int(answer.argmax()), direction, 0.0981))


def test_the_two_directions_raise_and_lower_the_labels_logit() -> None:
    model, pixels, answers = Curved(8), POOL.pixels[:20, :, :8, :8].copy(), answers_for(20)
    labels = answers.argmax(1)

    def sure(images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return model(torch.from_numpy(images)).log_softmax(1).gather(1, labels[:, None])

    for direction, sign in (("logit", 1), ("loss", -1)):
        attack = JBDA(selection=drawn, loss=soft_cross_entropy, seeds=3, step=0.02, direction=direction)  # type: ignore[arg-type]
        made = attack.make_images(model, pixels, answers, np.random.default_rng(0), 0)
        assert (sign * (sure(made) - sure(pixels))).mean() > 0.01


def test_the_step_turns_round_every_tau_rounds() -> None:
    model, pixels, answers = Curved(8), POOL.pixels[:5, :, :8, :8].copy(), answers_for(5)
    assert build.make(composed("attack=jbda").attack).tau == 3
    attack = JBDA(selection=drawn, loss=soft_cross_entropy, seeds=3, step=0.0981, tau=3)
    for number, sign in enumerate([1, 1, 1, -1, -1, -1, 1]):  # the paper's (-1)^floor(rho / 3)
        assert attack.step_of(number) == sign * 0.0981
        made = attack.make_images(model, pixels, answers, np.random.default_rng(0), number)
        for image, new, answer in zip(pixels, made, answers, strict=True):
            np.testing.assert_array_equal(new, stepped(model, image, int(answer.argmax()), "logit", sign * 0.0981))
    assert [build.make(composed("attack=jbda_ce").attack).step_of(n) for n in (0, 5)] == [0.1, 0.1]


def walked(model: nn.Module, image: np.ndarray, targets: list[int], eps: float) -> np.ndarray:
    """One image's walk, straight from the description."""
    start = (torch.from_numpy(image).float() / 255)[None]
    delta = torch.zeros_like(start)
    for target in targets:
        x = (start + delta).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), torch.tensor([target])), x)
        delta = (delta - 1.85 * eps / len(targets) * gradient.sign()).clamp(-eps, eps)
        delta = torch.minimum(torch.maximum(delta, -start), 1 - start)
    return ((start + delta)[0] * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize(("n", "batch"), [(1, 32), (5, 32), (5, 4)])
def test_each_image_walks_as_it_would_alone(n: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jbda, "GRADIENT_BATCH", batch)
    model, pixels, answers = Curved(8), POOL.pixels[:n, :, :8, :8].copy(), answers_for(n)
    attack = build.make(composed("attack=jbda_tr").attack)
    made = attack.make_images(model, pixels, answers, np.random.default_rng(5), 0)
    targets = np.random.default_rng(5).integers(CLASSES, size=(8, 3 * n))
    assert len({tuple(row) for row in targets.T}) == 3 * n  # the three walks of an image go different ways
    for row in range(3 * n):
        want = walked(model, pixels[row // 3], targets[:, row].tolist(), 0.1)
        off = np.abs(made[row].astype(int) - want.astype(int))
        assert (off > 1).mean() < 0.01  # a gradient of nearly zero may change its sign with the order of a sum
        assert np.abs(made[row].astype(int) - pixels[row // 3].astype(int)).max() <= 26


@pytest.mark.parametrize(
    ("attack", "queries"), [("jbda", 2), ("jbda", 9), ("jbda_ce", 17), ("jbda_tr", 3), ("jbda_tr", 25)]
)
def test_the_budget_is_used_up_to_the_last_query(attack: str, queries: int, tmp_path: Path) -> None:
    thief, oracle = steal(tmp_path, queries, f"attack={attack}")
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == queries
    assert thief.head.out_features == CLASSES and not thief.training


def test_what_is_asked_about_is_what_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, ctx = composed(*QUICK, "attack=jbda"), context(tmp_path)
    oracle, theirs = oracle_for(ctx, 17), AttackContext(build.make(cfg.thief), ctx)
    seen: list[tuple[str, Images, Tensor]] = []
    fit = theirs.fit_thief

    def spied(pool: Images, ids: Any, answers: Tensor, loss: Any, stage: str = "thief") -> nn.Module:
        np.testing.assert_array_equal(ids, np.arange(len(pool)))
        seen.append((stage, pool, answers))
        return fit(pool, ids, answers, loss, stage)

    monkeypatch.setattr(theirs, "fit_thief", spied)
    build.make(cfg.attack).run(oracle, POOL, theirs)
    assert [(stage, len(pool)) for stage, pool, _ in seen] == [
        ("thief-round-1", 3), ("thief-round-2", 6), ("thief-round-3", 12), ("thief", 17)
    ]  # fmt: skip
    assert len({pool.digest for _, pool, _ in seen}) == 4
    _, pool, answers = seen[-1]
    np.testing.assert_array_equal(pool.pixels[:3], POOL.pixels[drawn(len(POOL), 3, 0)])
    again = oracle_for(context(tmp_path / "again"), 17).ask_images(torch.from_numpy(pool.pixels).float() / 255)
    torch.testing.assert_close(answers, again, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("views", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_each_image_passes_a_frozen_trunk_once(views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0
    of_images, in_batches = inference.compute_outputs, inference.run_in_batches

    def counted(model: nn.Module, rows: Any, count: int, ctx: Any) -> Tensor:
        nonlocal passed
        passed += count * isinstance(model, Backbone)
        return in_batches(model, rows, count, ctx)

    monkeypatch.setattr(inference, "run_in_batches", counted)
    probe = ["recipes.probe.epochs=1", "recipes.probe.augment.flip=0.5", f"recipes.probe.views={views}"]
    cfg = composed("thief=efficientnet_lite0", "thief.backbone.size=32", *probe, "attack=jbda")
    ctx = context(tmp_path)
    given: list[tuple[Images, Tensor]] = []
    features = inference.features

    def noted(spec: Any, trunk: nn.Module, images: Images, ids: Any, ctx: Any, view: Any = None) -> Tensor:
        found = features(spec, trunk, images, ids, ctx, view)
        if images.parts and view is None:
            given.append((images, found))
        return found

    monkeypatch.setattr(learners, "features", noted)
    build.make(cfg.attack).run(oracle_for(ctx, 25), POOL, AttackContext(build.make(cfg.thief), ctx))
    assert passed == 25 * max(1, views)
    assert [len(images) for images, _ in given] == ([] if views else [5, 10, 20, 25])
    thief = build.make(cfg.thief).build(CLASSES)
    for images, found in given:
        torch.testing.assert_close(found, of_images(thief.backbone, images, np.arange(len(images)), ctx))


def test_images_are_asked_about_in_blocks_as_they_would_be_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, sizes = POOL.pixels[[*range(8), 0, 1]], []
    want = oracle_for(context(tmp_path / "together"), 10).ask_images(torch.from_numpy(pixels).float() / 255)
    oracle = oracle_for(context(tmp_path / "blocks"), 10)
    ask = oracle.ask_images
    monkeypatch.setattr(oracle, "ask_images", lambda images: (sizes.append(len(images)), ask(images))[1])
    monkeypatch.setattr(asked_views, "ANSWERED_AT_ONCE", 4)
    torch.testing.assert_close(asked_views.ask_views(oracle, pixels), want, rtol=1e-5, atol=1e-6)
    assert sizes == [4, 4, 2] and oracle.used == 10


def test_later_rounds_start_from_a_uniform_few() -> None:
    attack = JBDA(selection=drawn, loss=soft_cross_entropy, seeds=4, growth=2, reservoir=5)
    rounds = np.random.default_rng(0)
    assert sorted(attack.parents(8, 1, 100, rounds)) == list(range(8))
    counts = np.zeros(20)
    for _ in range(2000):
        parents = attack.parents(20, 2, 100, rounds)
        assert len(set(parents.tolist())) == 5
        counts[parents] += 1
    assert counts.min() > 400 and counts.max() < 600  # mean 500, standard deviation 19
    assert len(attack.parents(20, 2, 3, rounds)) == 3
    targeted = build.make(composed("attack=jbda_tr").attack)
    assert len(targeted.parents(20, 9, 100, rounds)) == 20 and len(targeted.parents(20, 9, 7, rounds)) == 3


def test_as_many_seeds_as_the_budget_and_the_options_say() -> None:
    attack = JBDA(selection=drawn, loss=soft_cross_entropy, seeds=150)
    assert [attack.count_seeds(Budget(n)) for n in (1, 3, 10, 100, 750, 10_000)] == [1, 2, 2, 20, 150, 150]


@pytest.mark.parametrize("attack", ["jbda", "jbda_tr"])
def test_a_killed_attack_asks_the_same_again(attack: str, tmp_path: Path) -> None:
    whole, again = killed_and_again(tmp_path, 20, 8, f"attack={attack}")
    assert same_weights(whole, again)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("attack.seeds=0", "seeds"),
        ("attack.share=0", "share"),
        ("attack.step=2", "step"),
        ("attack.tau=0", "tau"),
        ("attack.reservoir=0", "reservoir"),
    ],
)
def test_options_that_make_no_sense_are_refused(override: str, match: str) -> None:
    with pytest.raises(ConfigError, match=rf"attack\.{match}"):
        build.make(composed("attack=jbda", override).attack)


def test_a_pool_with_too_few_seeds_is_refused() -> None:
    with pytest.raises(ConfigError, match="query set holds 80 images"):
        build.make(composed("attack=jbda").attack).check(Budget(10_000), POOL)
