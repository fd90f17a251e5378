from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.stolen_encoder import Distance, distances, stolen_encoder_loss
from fmsteal.base.errors import ConfigError
from tests.attacks.published import stolen_encoder
from tests.support.exact import agree, dimensions, embeddings, images, seeds

DISTANCES: list[Distance] = ["l2", "l1", "cosine"]


@given(
    images, dimensions, st.sampled_from([0, 1, 9]), seeds, st.sampled_from(DISTANCES), st.sampled_from([0.0, 1.0, 20.0])
)
@settings(max_examples=60)
def test_is_its_formula(n: int, d: int, k: int, seed: int, distance: Distance, lam: float) -> None:
    clean, views, targets = embeddings(seed, (n, d), (k, n, d), (n, d))
    agree(
        lambda s, a, v: stolen_encoder_loss(s, a, v, lam, distance),
        lambda s, a, v: stolen_encoder(s, a, v, lam, distance),
        clean,
        views,
        targets,
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_no_views_is_the_first_term(distance: Distance) -> None:
    clean, targets = embeddings(3, (7, 16), (7, 16))
    alone = stolen_encoder_loss(clean, None, targets, 20.0, distance)
    torch.testing.assert_close(alone, stolen_encoder_loss(clean, torch.empty(0, 7, 16), targets, 20.0, distance))
    torch.testing.assert_close(alone, distances(clean[None], targets, distance)[0])


@pytest.mark.parametrize("distance", DISTANCES)
def test_terms_can_be_reported_apart(distance: Distance) -> None:
    clean, views, targets = embeddings(3, (7, 16), (9, 7, 16), (7, 16))
    first, *rest = distances(torch.cat([clean[None], views]), targets, distance)
    whole = stolen_encoder_loss(clean, views, targets, 20.0, distance)
    torch.testing.assert_close(whole, first + 20 * torch.stack(rest).mean())


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_embeddings_and_zero_rows_have_finite_gradients(distance: Distance) -> None:
    (targets,) = embeddings(0, (5, 8))
    clean = targets.clone().requires_grad_()
    (grad,) = torch.autograd.grad(stolen_encoder_loss(clean, clean[None], targets, 20.0, distance), clean)
    assert grad.abs().max() < 1e-5
    nothing = torch.zeros(5, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(stolen_encoder_loss(nothing, None, targets, 20.0, distance), nothing)
    assert grad.isfinite().all()


def test_only_directions_count() -> None:
    clean, views, targets = embeddings(1, (5, 8), (2, 5, 8), (5, 8))
    torch.testing.assert_close(
        stolen_encoder_loss(clean, views, targets), stolen_encoder_loss(3 * clean, 0.1 * views, 7 * targets)
    )


def test_another_distance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"l2, l1 or cosine, not 'linf'"):
        distances(torch.ones(1, 1, 2), torch.ones(1, 2), "linf")  # type: ignore[arg-type]
