from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from fmsteal.attacks.rda import FLOOR, prototypes, rda_loss
from fmsteal.base.errors import AttackError
from fmsteal.config import build
from tests.attacks.published import rda
from tests.support.composing import composed
from tests.support.exact import agree, dimensions, embeddings, images, seeds, several, unit


@given(
    several,
    st.integers(2, 17),
    st.sampled_from([1, 2, 5]),
    seeds,
    st.sampled_from([(1.0, 1.0), (1.0, 20.0), (0.0, 1.0)]),
)
@settings(max_examples=40)
def test_is_its_formula(n: int, d: int, m: int, seed: int, weights: tuple[float, float]) -> None:
    views, asked = embeddings(seed, (m, n, d), (3, n, d))
    p, (alpha, beta) = prototypes(asked), weights
    assume(torch.cosine_similarity(views, p, dim=-1).min() > -0.999)  # float32 has few digits of cos + 1 left there
    agree(
        lambda s, p: rda_loss(s, p, 0.07, alpha, beta)[0] / (alpha + beta),
        lambda s, p: rda(s, p, 0.07, alpha, beta) / (alpha + beta),
        views,
        p,
        float32=1e-5 if d > 12 else 1e-3,  # in many dimensions, cos + 1 and ||s - p||^2 are far from 0
    )


def test_terms_are_told_apart() -> None:
    views, asked = embeddings(0, (5, 7, 16), (10, 7, 16))
    p = prototypes(asked)
    loss, terms = rda_loss(views, p, 0.07, 2.0, 3.0)
    torch.testing.assert_close(loss, 2 * terms["contrastive"] + 3 * terms["align"])
    torch.testing.assert_close(terms["contrastive"], rda_loss(views, p, 0.07, 1.0, 0.0)[0])
    torch.testing.assert_close(terms["align"], rda_loss(views, p, 0.07, 0.0, 1.0)[0])


@given(images, dimensions, st.sampled_from([1, 3, 10]), seeds)
@settings(max_examples=30)
def test_prototypes_are_means_of_unit_rows(n: int, d: int, r: int, seed: int) -> None:
    (asked,) = embeddings(seed, (r, n, d))
    want = torch.stack([sum((unit(asked[q, i].double()) for q in range(r)), torch.zeros(d)) / r for i in range(n)])
    torch.testing.assert_close(prototypes(asked).double(), want, rtol=1e-5, atol=1e-6)
    assert (prototypes(asked).norm(dim=1) <= 1 + 1e-6).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_alignment_is_bounded_where_thief_and_prototype_meet_or_oppose(sign: float) -> None:
    p = torch.eye(3, 8)
    views = (sign * p).expand(2, 3, 8).clone().requires_grad_()
    loss, terms = rda_loss(views, p)
    (grad,) = torch.autograd.grad(loss, views)
    assert grad.isfinite().all()
    bound = math.log(FLOOR / 2) if sign > 0 else math.log(4 / FLOOR)
    assert float(terms["align"]) == pytest.approx(bound, rel=1e-5)


def test_one_image_has_no_negatives() -> None:
    with pytest.raises(AttackError, match="two or more images"):
        rda_loss(*embeddings(0, (5, 1, 8), (1, 8)))


def test_all_views_of_a_step_pass_the_network_together() -> None:
    """So BatchNorm's statistics are those of all views, as in the published code."""
    attack = build.make(composed("task=embed", "attack=rda", "attack.patches=3").attack)
    net, images = (
        nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6, affine=False)),
        torch.rand(5, 3, 8, 8),
    )
    (targets,) = embeddings(0, (5, 6))
    torch.manual_seed(0)
    loss, _ = attack.module(net, attack.recipe, 0).loss((images, targets))
    torch.manual_seed(0)
    rows = net[1](attack.views(images.repeat(3, 1, 1, 1)).flatten(1))
    rows = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(loss, rda_loss(rows.view(3, 5, 6), targets)[0], rtol=1e-4, atol=1e-5)
    apart = torch.stack([F.batch_norm(part, None, None, training=True) for part in rows.view(3, 5, 6)])
    assert (loss - rda_loss(apart, targets)[0]).detach().abs() > 1e-3


@pytest.mark.parametrize(
    ("attack", "asks", "patches", "batch", "beta", "crops"),
    [("rda", 10, 5, 100, 1, True), ("rda_imagenet", 5, 1, 80, 1, True), ("rda_clip", 5, 1, 80, 20, False)],
)
def test_recipes_are_the_published_ones(
    attack: str, asks: int, patches: int, batch: int, beta: float, crops: bool
) -> None:
    made = build.make(composed("task=embed", f"attack={attack}").attack)
    assert (made.asks_per_image, made.patches, made.recipe.batch_size, made.beta) == (asks, patches, batch, beta)
    assert (made.recipe.lr, made.recipe.weight_decay, made.recipe.epochs) == (1e-3, 1e-4, 100)
    steps = [[type(step).__name__ for step in views.steps] for views in (made.prototype_views, made.views)]
    if crops:
        assert steps == [["ResizedCrop", "Flip", "ColourJitter", "Grey", "Blur", "Solarise"]] * 2
    else:
        assert steps == [["ResizedCrop"], ["Flip", "ColourJitter", "Grey"]]
    for other in ("cont_steal_two_view", "stolen_encoder_rda"):
        recipe = build.make(composed("task=embed", f"attack={other}").attack).recipe
        assert (recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.optimizer) == (100, 1e-3, 1e-4, "adam")
