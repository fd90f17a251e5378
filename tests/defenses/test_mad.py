"""MAD against its formula with whole Jacobians, and its searches against plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.defenses.mad import LEAD, MAD, mad
from fmsteal.defenses.surrogate import Surrogate
from tests.support.asking import asked, guard_of
from tests.support.simplex import dirichlet, simplex

Row = npt.NDArray[np.float64]


def turned(p: Row, q: Row, y: Row) -> float:
    """The objective, by the Jacobian of the surrogate's log q by its last layer's weights (input h)."""
    h = np.array([0.3, -1.2, 2.0])
    jacobian = np.stack([np.outer(np.eye(len(p))[k] - q, h).ravel() for k in range(len(p))])
    one, other = jacobian.T @ y, jacobian.T @ p
    return float(((one / np.linalg.norm(one) - other / np.linalg.norm(other)) ** 2).sum())


def uniform(classes: tuple[int, ...], k: int) -> Row:
    return np.isin(np.arange(k), classes) / len(classes)


def sets(p: Row) -> Iterator[Row]:
    """Uniform rows over the top class and any others."""
    top, k = int(p.argmax()), len(p)
    others = [c for c in range(k) if c != top]
    for size in range(k):
        for some in itertools.combinations(others, size):
            yield uniform((top, *some), k)


def greedy(p: Row, q: Row) -> float:
    """The objective that a plain greedy search reaches: adds the best class as long as that helps."""
    inside = [int(p.argmax())]
    best = turned(p, q, uniform(tuple(inside), len(p)))
    while len(inside) < len(p):
        found = [(turned(p, q, uniform((*inside, c), len(p))), c) for c in range(len(p)) if c not in inside]
        value, c = max(found)
        if value <= best:
            break
        best, inside = value, [*inside, c]
    return best


def moved(p: Row, target: Row, epsilon: float) -> Row:
    distance = np.abs(p - target).sum()
    return p + min(1.0, epsilon / distance) * (target - p) if distance else p


def pair(seed: int, classes: int, n: int = 3) -> tuple[Tensor, Tensor]:
    return dirichlet(seed, n, classes).double(), dirichlet(seed + 1, n, classes, 20.0).double()


def direction(p: Row, y: Row) -> Row:
    return (y - p) / np.abs(y - p).sum()


@given(st.integers(0, 999), st.integers(2, 60), st.sampled_from([0.1, 0.5, 1.0]))
@settings(max_examples=40)
def test_free_it_tries_all_vertices(seed: int, classes: int, epsilon: float) -> None:
    p, q = pair(seed, classes)
    for row, at, y in zip(p.numpy(), q.numpy(), mad(p, q, epsilon).numpy(), strict=True):
        row = row / row.sum()
        best = max(np.eye(classes), key=lambda v: turned(row, at, v))
        np.testing.assert_allclose(y, moved(row, best, epsilon), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5, 8, 11, 12])
def test_with_the_label_kept_it_tries_all_sets_up_to_12_classes(classes: int) -> None:
    for seed in range(4 if classes < 9 else 1):
        p, q = pair(seed, classes, 2)
        for row, at, y in zip(p.numpy(), q.numpy(), mad(p, q, 0.3, keep_label=True).numpy(), strict=True):
            top = np.eye(classes)[row.argmax()]
            best = max(turned(row, at, v) for v in sets(row))
            ties = [v for v in sets(row) if turned(row, at, v) > best - 1e-9]
            wanted = [moved(row, (v + LEAD * top) / (1 + LEAD), 0.3) for v in ties]
            assert min(np.abs(y - w).max() for w in wanted) < 1e-6


@pytest.mark.parametrize("classes", [43, 45])
def test_above_it_is_never_worse_than_a_greedy_search(classes: int) -> None:
    p, q = pair(classes, classes, 2)
    for row, at, y in zip(p.numpy(), q.numpy(), mad(p, q, 5.0, keep_label=True).numpy(), strict=True):
        kept = y > 1e-6
        assert set(np.round(y[kept] * kept.sum(), 2)) <= {1.0}, "the target itself, at this epsilon"
        assert turned(row, at, kept / kept.sum()) >= greedy(row, at) - 1e-9


@given(simplex(), st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=15)
def test_the_label_stays_even_where_the_target_ties(p: Tensor, epsilon: float) -> None:
    y = guard_of(MAD(epsilon, keep_label=True), p.shape[1]).reply(asked(p)).answers
    best = y.topk(2, dim=1).values
    assert torch.equal(y.argmax(1), p.argmax(1)) and (best[:, 0] > best[:, 1]).all()


def test_free_it_costs_the_label() -> None:
    p = dirichlet(0, 200, 10, 0.1)
    kept = [float((mad(p.double(), torch.full((200, 10), 0.1).double(), e).argmax(1) == p.argmax(1)).double().mean())
            for e in (0.1, 0.5, 1.0, 2.0)]  # fmt: skip
    assert kept[0] > 0.9 and kept[2] < 0.01 and kept[3] == 0


def test_where_p_is_q_there_is_no_angle() -> None:
    p = dirichlet(0, 3, 5).double()
    for keep in (False, True):
        torch.testing.assert_close(mad(p, p.clone(), 0.5, keep), p, rtol=0, atol=0)


def test_the_surrogate_looks_at_the_image() -> None:
    p = dirichlet(0, 4, 5)
    ask = asked(p)
    y = guard_of(MAD(0.5), 5).reply(ask).answers
    q = Surrogate(5, 0)(ask.images()).double().exp()
    torch.testing.assert_close(y.double(), mad(p.double(), q, 0.5), rtol=0, atol=1e-6)
    assert float((q[0] - q[1]).abs().max()) > 0 and not torch.equal(q, Surrogate(5, 1)(ask.images()).double().exp())
