from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.stolen_encoder_rda import rda_style_loss
from tests.attacks.published import stolen_encoder_rda
from tests.support.exact import agree, dimensions, embeddings, images, seeds, unit


@given(images, st.integers(1, 9), st.sampled_from([1, 3]), seeds, st.sampled_from([1.0, 20.0]))
@settings(max_examples=15)
def test_is_its_formula(n: int, d: int, k: int, seed: int, lam: float) -> None:
    clean, views, targets = embeddings(seed, (n, d), (k, n, d), (n, d))
    agree(
        lambda s, a, v: rda_style_loss(s, a, v, lam),
        lambda s, a, v: stolen_encoder_rda(s, a, v, lam),
        clean,
        views,
        targets,
    )


@given(images, dimensions, seeds)
@settings(max_examples=15)
def test_is_the_squared_distance_over_dimensions(n: int, d: int, seed: int) -> None:
    clean, targets = embeddings(seed, (n, d), (n, d))
    both = rda_style_loss(clean, clean[None], targets)
    apart = sum((float((unit(s) - unit(v)).square().sum()) for s, v in zip(clean, targets, strict=True)), 0.0)
    torch.testing.assert_close(both, torch.tensor(21 * apart / (n * d)), rtol=1e-4, atol=1e-6)
