from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from fmsteal.attacks import embedding_losses as losses
from fmsteal.base.errors import AttackError
from tests.attacks.published import infonce_loop, mse_loop
from tests.support.exact import agree, dimensions, embeddings, images, seeds, several


@given(images, dimensions, seeds)
@settings(max_examples=20)
def test_mse(n: int, d: int, seed: int) -> None:
    agree(losses.mse, mse_loop, *embeddings(seed, (n, d), (n, d)))


@given(several, dimensions, seeds, st.sampled_from([0.07, 0.5]))
@settings(max_examples=30)
def test_infonce(n: int, d: int, seed: int, temperature: float) -> None:
    agree(
        lambda s, v: losses.infonce(s, v, temperature),
        lambda s, v: infonce_loop(s, v, temperature),
        *embeddings(seed, (n, d), (n, d)),
    )


def soft_nn_loop(thief: Tensor, victim: Tensor, temperature: float) -> Tensor:
    z, n = [*thief, *victim], len(thief)
    total = thief.new_zeros(())
    for i in range(2 * n):
        same = everyone = thief.new_zeros(())
        for j in range(2 * n):
            if j != i:
                near = (-(z[i] - z[j]).square().sum() / temperature).exp()
                everyone = everyone + near
                same = same + near if j % n == i % n else same
        total = total - (same / everyone).log()
    return total / (2 * n)


@given(several, dimensions, seeds, st.sampled_from([0.5, 100.0]), st.sampled_from([0.0, 3.0]))
@settings(max_examples=30)
def test_soft_nn(n: int, d: int, seed: int, temperature: float, shift: float) -> None:
    thief, victim = embeddings(seed, (n, d), (n, d))
    agree(
        lambda s, v: losses.soft_nn(s, v, temperature),
        lambda s, v: soft_nn_loop(s, v, temperature),
        thief + shift,
        victim + shift,
    )


def test_soft_nn_of_far_neighbours_is_finite() -> None:
    far = (torch.arange(6.0)[:, None] * 1e3).requires_grad_()
    loss = losses.soft_nn(far, far.detach().flip(0), 1.0)
    (grad,) = torch.autograd.grad(loss, far)
    assert loss > 1e6 and grad.isfinite().all() and grad.abs().max() > 0


def wasserstein_loop(thief: Tensor, victim: Tensor) -> Tensor:
    total = thief.new_zeros(())
    for s, v in zip(thief, victim, strict=True):
        for upto in range(1, len(s) + 1):
            total = total + (s[:upto].sum() / s.sum() - v[:upto].sum() / v.sum()).abs()
    return total / len(thief)


@given(images, dimensions, seeds)
@settings(max_examples=30)
def test_wasserstein(n: int, d: int, seed: int) -> None:
    thief, victim = (rows.abs() for rows in embeddings(seed, (n, d), (n, d)))
    agree(losses.wasserstein, wasserstein_loop, thief, victim)
    places = list(range(d))
    per_image = [wasserstein_distance(places, places, s, v) for s, v in zip(thief.numpy(), victim.numpy(), strict=True)]
    assert float(losses.wasserstein(thief, victim)) == pytest.approx(sum(per_image) / n, rel=1e-5, abs=1e-5)


def barlow_loop(thief: Tensor, victim: Tensor, weight: float) -> Tensor:
    n, d = thief.shape

    def standard(side: Tensor) -> Tensor:
        columns = []
        for c in range(d):
            mean = side[:, c].sum() / n
            columns.append((side[:, c] - mean) / (((side[:, c] - mean) ** 2).sum() / n + 1e-5).sqrt())
        return torch.stack(columns)

    s, v = standard(thief), standard(victim)
    total = thief.new_zeros(())
    for a in range(d):
        for b in range(d):
            c = (s[a] * v[b]).sum() / n
            total = total + ((1 - c) ** 2 if a == b else weight * c**2)
    return total


@given(several, st.integers(1, 9), seeds, st.sampled_from([0.0051, 0.5]))
@settings(max_examples=20)
def test_barlow(n: int, d: int, seed: int, weight: float) -> None:
    agree(
        lambda s, v: losses.barlow(s, v, weight),
        lambda s, v: barlow_loop(s, v, weight),
        *embeddings(seed, (n, d), (n, d)),
        float32=1e-5 if n > 5 else 1e-3,  # where a dimension hardly varies in a few images, 1 / std magnifies rounding
    )


def test_barlow_of_a_constant_dimension() -> None:
    still = torch.ones(5, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(losses.barlow(still, torch.randn(5, 8)), still)
    assert grad.isfinite().all()


@pytest.mark.parametrize("loss", [losses.infonce, losses.soft_nn, losses.barlow])
def test_a_single_image_is_refused_where_images_are_compared(loss: object) -> None:
    thief, victim = embeddings(0, (1, 8), (1, 8))
    with pytest.raises(AttackError, match=r"two or more in it, .* attack\.recipe\.batch_size"):
        loss(thief, victim)  # type: ignore[operator]
    assert loss.fewest == 2  # type: ignore[attr-defined]


def test_wasserstein_refuses_answers_below_zero() -> None:
    thief, victim = embeddings(0, (4, 8), (4, 8))
    with pytest.raises(AttackError, match=r"wasserstein .* some below 0: .*attack/loss=mse"):
        losses.wasserstein(thief, victim)
    assert losses.wasserstein(thief.abs(), victim.abs()).isfinite()


@pytest.mark.parametrize("loss", [losses.mse, losses.infonce, losses.soft_nn, losses.wasserstein, losses.barlow])
def test_the_right_image_is_better_than_another(loss: object) -> None:
    victim = embeddings(0, (9, 16))[0].abs()
    assert loss(victim, victim) < loss(victim.roll(1, 0), victim)  # type: ignore[operator]
