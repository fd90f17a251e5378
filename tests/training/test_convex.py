"""The minimum of a head against scikit-learn's and SciPy's, and what may come its way."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from fmsteal.attacks.losses import hard_cross_entropy, soft_cross_entropy
from fmsteal.attacks.querywise import distillation
from fmsteal.base.errors import DataError, FmstealError
from fmsteal.training import convex, newton
from fmsteal.training.convex import FEW, KEPT, PENALTIES, Fit, fit_head

TIGHT = 1e-7
SHAPES = [(60, 7), (12, 30), (31, 30), (30, 30)]  # more rows than features, fewer, hardly


def rows(n: int, width: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features with a mean, of unequal variances; noisy soft answers of a linear model."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=random) * torch.logspace(0, -1, width) + 3
    truth = torch.randn(width, classes, generator=random)
    return x, ((x - 3) @ truth + torch.randn(n, classes, generator=random)).softmax(dim=1)


def scaled(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """The features as the docstring of `fmsteal.training.convex` defines them, with m and s."""
    wide = x.double()
    mean = wide.mean(dim=0)
    scale = float((wide - mean).square().mean().sqrt())
    return (wide - mean) / scale, mean, scale


def by_scipy(x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor], l2: float, classes: int) -> Tensor:
    """Centred logits of the rows at the minimum that SciPy finds in float64."""
    features, _, _ = scaled(x)
    width = features.shape[1]
    targets = y.double() if y.is_floating_point() else y

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(flat.reshape(width + 1, classes), requires_grad=True)
        total = loss(features @ at[:-1] + at[-1], targets) + l2 / 2 * at[:-1].square().sum()
        total.backward()
        assert at.grad is not None
        return float(total.detach()), at.grad.numpy().ravel()

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-10}
    found = minimize(value, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options=options)
    at = torch.tensor(found.x.reshape(width + 1, classes))
    return centred(features @ at[:-1] + at[-1])


def centred(logits: Tensor) -> Tensor:
    """Logits without what all classes of a row have in common, which no loss here sees."""
    return (logits - logits.mean(dim=1, keepdim=True)).double()


def logits(fit: Fit, x: Tensor) -> Tensor:
    return centred(x.double() @ fit.weight.double().T + fit.bias.double())


@pytest.mark.parametrize(("n", "width"), SHAPES)
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_labels_give_the_minimum_of_scikit_learn(n: int, width: int, l2: float) -> None:
    x, y = rows(n, width)
    labels = y.argmax(dim=1)
    features, _, _ = scaled(x)
    theirs = LogisticRegression(C=1 / (l2 * n), tol=1e-10, max_iter=100_000).fit(features.numpy(), labels.numpy())
    want = centred(torch.from_numpy(theirs.decision_function(features.numpy())))
    fit = fit_head(x, labels, F.cross_entropy, 3, l2, tolerance=TIGHT)
    torch.testing.assert_close(logits(fit, x), want, rtol=1e-4, atol=1e-4)
    assert fit.gradient <= max(fit.needed, 1e-8) and fit.l2 == l2 and not fit.tried


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_an_answers_label_is_a_label(n: int, width: int) -> None:
    x, y = rows(n, width)
    hard = fit_head(x, y, hard_cross_entropy, 3, 1e-3, tolerance=TIGHT)
    label = fit_head(x, y.argmax(dim=1), F.cross_entropy, 3, 1e-3, tolerance=TIGHT)
    torch.testing.assert_close(logits(hard, x), logits(label, x), rtol=1e-5, atol=1e-5)


def temperature(z: Tensor, answers: Tensor) -> Tensor:
    return distillation(z, answers.clamp_min(1e-30).log(), 20.0).mean()


def top_two(y: Tensor) -> Tensor:
    """Truncated answers, which do not sum to one."""
    return y * (y >= y.topk(2).values[:, -1:])


@pytest.mark.parametrize(("n", "width"), SHAPES)
@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (soft_cross_entropy, lambda y: y),
        (soft_cross_entropy, top_two),
        (temperature, lambda y: y),
        (partial(F.cross_entropy, label_smoothing=0.2), lambda y: y.argmax(dim=1)),
    ],
    ids=["soft", "truncated", "temperature", "smoothed labels"],
)
def test_every_loss_gives_the_minimum_of_scipy(
    n: int, width: int, loss: Callable[[Tensor, Tensor], Tensor], targets: Callable[[Tensor], Tensor]
) -> None:
    x, y = rows(n, width)
    want = by_scipy(x, targets(y), loss, 1e-3, 3)
    fit = fit_head(x, targets(y), loss, 3, 1e-3, tolerance=TIGHT)
    torch.testing.assert_close(logits(fit, x), want, rtol=2e-4, atol=2e-4)


@given(st.integers(2, 40), st.integers(1, 40), st.integers(2, 5), st.integers(0, 10**6))
@settings(max_examples=15)
def test_at_the_minimum_the_gradient_is_what_is_stated(n: int, width: int, classes: int, seed: int) -> None:
    """By autograd in the weights themselves, not in the fit's own unknowns."""
    x, y = rows(n, width, classes, seed)
    l2 = 10.0 ** -(seed % 5)
    fit = fit_head(x, y, soft_cross_entropy, classes, l2)
    features, mean, scale = scaled(x)
    weight = (fit.weight.double().T * scale).requires_grad_()
    bias = (fit.bias.double() + mean @ fit.weight.double().T).requires_grad_()
    (soft_cross_entropy(features @ weight + bias, y.double()) + l2 / 2 * weight.square().sum()).backward()
    assert weight.grad is not None and bias.grad is not None
    norm = math.hypot(float(weight.grad.norm()), float(bias.grad.norm()))
    assert norm <= convex.GRADIENT * l2 * float(weight.detach().norm()) + 1e-5  # float32 weights on a mean of 3


@pytest.mark.parametrize(("n", "width"), [(80, 7), (40, 60)])
@pytest.mark.parametrize("l2", [None, 1e-3])
@pytest.mark.parametrize("loss", [soft_cross_entropy, hard_cross_entropy])
def test_rows_in_any_order_give_one_head(
    n: int, width: int, l2: float | None, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    x, y = rows(n, width)
    first = fit_head(x, y, loss, 3, l2)
    for seed in range(3):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        other = fit_head(x[order], y[order], loss, 3, l2)
        assert other.l2 == first.l2
        torch.testing.assert_close(other.weight, first.weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(other.bias, first.bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "width"), [(60, 7), (12, 30)])
def test_answers_without_doubt_have_a_minimum_too(n: int, width: int) -> None:
    """Separable labels: without a penalty the weights would grow without end."""
    x, _ = rows(n, width)
    labels = (x[:, 0] > 3).long()
    for l2 in (1e-2, 1e-7):
        fit = fit_head(x, labels, F.cross_entropy, 2, l2)
        assert fit.gradient <= fit.needed
    assert bool((logits(fit, x).argmax(dim=1) == labels).all())
    saturated = F.one_hot(labels, 2).float()
    torch.testing.assert_close(
        logits(fit_head(x, saturated, soft_cross_entropy, 2, 1e-4, tolerance=TIGHT), x),
        logits(fit_head(x, labels, F.cross_entropy, 2, 1e-4, tolerance=TIGHT), x),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(("n", "width"), [(60, 7), (12, 30)])
@pytest.mark.parametrize("l2", [None, 1e-3])
def test_a_class_that_is_never_seen_is_never_predicted(n: int, width: int, l2: float | None) -> None:
    x, y = rows(n, width)
    labels = y[:, :2].argmax(dim=1)
    fit = fit_head(x, labels, F.cross_entropy, 4, l2)
    assert bool(fit.weight.isfinite().all()) and bool(fit.bias.isfinite().all())
    assert set(logits(fit, x).argmax(dim=1).tolist()) <= {0, 1}
    one = fit_head(x, torch.zeros(n, dtype=torch.int64), F.cross_entropy, 3, l2)
    assert bool(one.bias.isfinite().all()) and set(logits(one, x).argmax(dim=1).tolist()) == {0}


@pytest.mark.parametrize(("n", "width"), [(8, 30), (40, 30)])
def test_rows_that_coincide_are_no_obstacle(n: int, width: int) -> None:
    """Images that were asked about twice, with two answers; features that are all the same, or zero."""
    x, y = rows(n, width)
    _, other = rows(n, width, seed=1)
    twice, answers = torch.cat([x, x]), torch.cat([y, other])
    want = by_scipy(x, (y + other) / 2, soft_cross_entropy, 1e-3, 3)
    fit = fit_head(twice, answers, soft_cross_entropy, 3, 1e-3, tolerance=TIGHT)
    torch.testing.assert_close(logits(fit, x), want, rtol=1e-3, atol=1e-3)
    for same in (torch.zeros(n, width), torch.ones(n, width)):
        flat = fit_head(same, y, soft_cross_entropy, 3, 1e-3)
        torch.testing.assert_close(logits(flat, same).softmax(dim=1)[0], y.double().mean(dim=0), rtol=1e-4, atol=1e-4)


def test_views_are_rows_of_one_image() -> None:
    x, y = rows(20, 7)
    bank = torch.stack([x, x + 0.1 * torch.randn(20, 7, generator=torch.Generator().manual_seed(5))])
    flat = fit_head(bank.flatten(0, 1), y.repeat(2, 1), soft_cross_entropy, 3, 1e-2, tolerance=TIGHT)
    fit = fit_head(bank, y, soft_cross_entropy, 3, 1e-2, tolerance=TIGHT)
    torch.testing.assert_close(fit.weight, flat.weight, rtol=1e-4, atol=1e-5)
    names = convex._gather(bank, y, None, torch.device("cpu"))
    assert int(names.held_out.sum()) == 8, "a fifth of the images, with both views of each"


def test_the_penalty_is_chosen_by_rows_held_out() -> None:
    x, y = rows(200, 40)
    noise = torch.randint(3, (200,), generator=torch.Generator().manual_seed(1))
    clean, noisy = fit_head(x, y, soft_cross_entropy, 3), fit_head(x, noise, F.cross_entropy, 3)
    assert clean.l2 < 0.1 <= noisy.l2, "noise asks for a large one"
    for fit in (clean, noisy):
        assert fit.l2 == min(fit.tried, key=lambda penalty: fit.tried[penalty][0]) and set(fit.tried) <= {*PENALTIES}
    again = fit_head(x, y, soft_cross_entropy, 3, clean.l2, tolerance=TIGHT)
    torch.testing.assert_close(logits(clean, x), logits(again, x), rtol=2e-2, atol=2e-2)


def test_the_scale_of_logits_does_not_choose_the_penalty() -> None:
    x, y = rows(100, 10)
    z = x @ torch.randn(10, 3, generator=torch.Generator().manual_seed(2))
    found = convex._loss_at_best_scale(soft_cross_entropy, z, y)
    want = min(float(soft_cross_entropy(scale * z, y)) for scale in torch.logspace(-2, 2, 4001))
    assert found == pytest.approx(want, abs=1e-5)
    assert convex._loss_at_best_scale(soft_cross_entropy, 7 * z, y) == pytest.approx(found, abs=1e-5)


def test_rows_given_as_held_out_choose_the_penalty_and_are_fitted() -> None:
    x, y = rows(60, 7)
    fit = fit_head(x[:40], y[:40], soft_cross_entropy, 3, held_out=(x[40:], y[40:]), tolerance=TIGHT)
    whole = fit_head(x, y, soft_cross_entropy, 3, fit.l2, tolerance=TIGHT)
    assert fit.tried
    torch.testing.assert_close(fit.weight, whole.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_rows_take_a_penalty_that_is_stated(n: int, caplog: pytest.LogCaptureFixture) -> None:
    x, y = rows(n, 5)
    with caplog.at_level("INFO"):
        fit = fit_head(x, y, soft_cross_entropy, 3)
    assert fit.l2 == FEW and not fit.tried and f"l2={FEW:g}" in caplog.text
    assert bool(fit.weight.isfinite().all()) and fit.gradient <= 10 * fit.needed
    if n < 5:
        torch.testing.assert_close(logits(fit, x).softmax(dim=1), y.double(), rtol=0, atol=0.05)


def test_what_cannot_be_fitted_is_refused() -> None:
    x, y = rows(20, 5)
    for value in (float("nan"), float("inf")):
        broken = x.clone()
        broken[3, 2] = value
        with pytest.raises(DataError, match="not finite"):
            fit_head(broken, y, soft_cross_entropy, 3)
    with pytest.raises(DataError, match="no rows"):
        fit_head(x[:0], y[:0], soft_cross_entropy, 3)
    with pytest.raises(FmstealError, match="became nan"):
        fit_head(x, y, lambda z, t: soft_cross_entropy(z, t) * float("nan"), 3, 1e-3)


@pytest.mark.parametrize("killed_at", [1, 2])
@pytest.mark.parametrize(("n", "width"), [(80, 7), (40, 60)])
def test_a_killed_fit_goes_on_and_ends_the_same(n: int, width: int, killed_at: int, tmp_path: Path) -> None:
    x, y = rows(n, width)
    told: list[int] = []

    def tell(metrics: dict[str, float], done: int, total: int) -> None:
        told.append(done)

    def killed(metrics: dict[str, float], done: int, total: int) -> None:
        if done == killed_at:
            raise KeyboardInterrupt

    whole = fit_head(x, y, soft_cross_entropy, 3, tell=tell)
    points, told[:] = list(told), []
    with pytest.raises(KeyboardInterrupt):
        fit_head(x, y, soft_cross_entropy, 3, scratch=tmp_path, tell=killed)
    resumed = fit_head(x, y, soft_cross_entropy, 3, scratch=tmp_path, tell=tell)
    assert told == points[killed_at:], "what was tried is not tried again"
    assert resumed.tried == whole.tried and torch.equal(resumed.weight, whole.weight)
    other = fit_head(x + 1, y.flip(0), soft_cross_entropy, 3, scratch=tmp_path, tell=tell)
    assert not torch.equal(other.weight, whole.weight) and told[-len(other.tried) - 1] == 1, "other rows start over"
    (tmp_path / KEPT).write_bytes(b"damaged")
    assert torch.equal(fit_head(x, y, soft_cross_entropy, 3, scratch=tmp_path).weight, whole.weight)


@pytest.mark.parametrize(("n", "width"), [(60, 7), (12, 30)])
def test_many_classes_have_the_hessians_of_a_softmax(n: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(n, width)
    want = fit_head(x, y, soft_cross_entropy, 3, 1e-3, tolerance=TIGHT)
    monkeypatch.setattr(newton, "MOST", 0)
    found = fit_head(x, y, soft_cross_entropy, 3, 1e-3, tolerance=TIGHT)
    torch.testing.assert_close(logits(found, x), logits(want, x), rtol=1e-5, atol=1e-5)
    assert found.steps < 2 * want.steps + 5


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_rows_that_are_nearly_alike_take_few_products(kind: str) -> None:
    """Their spectrum falls steeply, as that of small digits under a large trunk, which has more features than rows."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(120, 200, generator=random) @ torch.diag(torch.logspace(0, -4, 200)) + 3
    z = (x - 3) @ torch.randn(200, 5, generator=random)
    y = z.argmax(dim=1) if kind == "labels" else z.softmax(dim=1)
    loss = F.cross_entropy if kind == "labels" else soft_cross_entropy
    assert fit_head(x, y, loss, 5).products < 1000
