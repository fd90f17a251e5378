"""Heads against plain loops and scikit-learn, on real digits; what they must and must not change with."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.data.digits import digits
from fmsteal.evaluation.heads import Head, KNNHead, LinearHead, MLPHead

TASK = digits(size=8, test=300)


def rows(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels of real digits as embeddings, 64 wide, and their labels."""
    images = getattr(TASK, split)
    return torch.from_numpy(np.array(images.pixels)[:, 0].reshape(len(images), -1)).float(), torch.tensor(images.labels)


X, Y = rows("train")
ASKED, TRUTH = rows("test")
HEADS = [LinearHead(), MLPHead(epochs=5), KNNHead(k=20)]


def accuracy(head: Head, seed: int = 0) -> float:
    return (head.fit_predict(X, Y, ASKED, 10, seed) == TRUTH).double().mean().item()


def vote(known: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor, classes: int, k: int, t: float) -> np.ndarray:
    """The votes ``(m, C)`` of a kNN, by loops over images, written from the formula."""
    found = np.zeros((len(asked), classes))
    for i, x in enumerate(asked.double().tolist()):
        near = []
        for j, y in enumerate(known.double().tolist()):
            size = math.hypot(*x) * math.hypot(*y)
            near.append((sum(a * b for a, b in zip(x, y, strict=True)) / size if size else 0.0, int(labels[j])))
        for cosine, label in sorted(near, key=lambda pair: -pair[0])[:k]:
            found[i, label] += math.exp(cosine / t)
    return found


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 7), st.integers(1, 5), st.integers(2, 4)),
    st.integers(1, 15), st.sampled_from([0.07, 0.5, 10.0]), st.sampled_from([1, 3, 100]), st.integers(0, 9999),
)  # fmt: skip
@settings(max_examples=60)
def test_knn_is_the_weighted_vote_of_a_plain_loop(
    size: tuple[int, int, int, int], k: int, temperature: float, batch: int, seed: int
) -> None:
    n, m, d, classes = size
    random = torch.Generator().manual_seed(seed)
    known, asked = (torch.randn(count, d, generator=random) for count in (n, m))
    labels = torch.randint(classes, (n,), generator=random)
    votes = vote(known, labels, asked, classes, k, temperature)
    found = KNNHead(k, temperature, batch).fit_predict(known, labels, asked, classes, 0).numpy()
    chosen = votes[np.arange(m), found]
    if d > 1:  # in one dimension all cosines are 1 or -1: which of the equally near vote is anybody's choice
        assert found.shape == (m,) and (chosen >= votes.max(1) * (1 - 1e-5)).all()


def test_a_small_temperature_does_not_overflow() -> None:
    assert accuracy(KNNHead(k=5, temperature=0.001)) > 0.95


def test_the_linear_head_is_scikit_learns_regression_on_normalised_rows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=10.0, max_iter=5000, tol=1e-6).fit(normalize(X.numpy()), Y.numpy())
    want = model.predict(normalize(ASKED.numpy()))
    found = LinearHead().fit_predict(X, Y, ASKED, 10, 0).numpy()
    assert (found == want).mean() >= 0.99 and (found == TRUTH.numpy()).mean() > 0.93


def test_the_mlp_head_is_the_papers_and_learns_digits() -> None:
    net = MLPHead()._network(100, 7)
    assert [(m.in_features, m.out_features) for m in net if isinstance(m, torch.nn.Linear)] == [
        (100, 512), (512, 256), (256, 7)
    ]  # fmt: skip
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert accuracy(MLPHead(epochs=60, lr=1e-3)) > 0.95


def test_the_mlp_head_is_a_plain_loop() -> None:
    """Without dropout, whose random numbers are nobody's business; order and initialisation are the head's own."""
    x = torch.nn.functional.normalize(X, dim=1)
    with seed_block("head", 3):
        layers = [torch.nn.Linear(a, b) for a, b in ((64, 512), (512, 256), (256, 10))]
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=False, foreach=False)
    order = np.random.default_rng(derive_seed("head order", 3))
    for _ in range(10):
        shuffled = order.permutation(len(x))
        for start in range(0, len(x), 256):
            ids = shuffled[start : start + 256]
            loss = torch.nn.functional.cross_entropy(net(x[ids]), Y[ids])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    want = net(torch.nn.functional.normalize(ASKED, dim=1)).argmax(1)
    found = MLPHead(dropout=0.0, epochs=10, lr=1e-3).fit_predict(X, Y, ASKED, 10, 3)
    assert (found == want).double().mean() >= 0.99 and (want == TRUTH).double().mean() > 0.8


@pytest.mark.parametrize("head", HEADS, ids=lambda h: type(h).__name__)
def test_a_head_depends_on_directions_and_the_seed_alone(head: Head) -> None:
    state = torch.get_rng_state()
    once = head.fit_predict(X, Y, ASKED, 10, 0)
    assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers are touched"
    torch.randn(3)
    scale = 2.0 ** torch.randint(-3, 4, (len(X), 1))  # exact in floating point
    assert torch.equal(once, head.fit_predict(X * scale, Y, ASKED * 4, 10, 0))
    assert once.dtype == torch.int64 and once.shape == (len(ASKED),)


def test_another_seed_is_another_mlp() -> None:
    head = MLPHead(epochs=2)
    assert not torch.equal(head.fit_predict(X, Y, ASKED, 10, 0), head.fit_predict(X, Y, ASKED, 10, 1))


@pytest.mark.parametrize("head", HEADS, ids=lambda h: type(h).__name__)
def test_labels_may_have_gaps_and_sets_may_be_small(head: Head) -> None:
    labels = torch.tensor([7, 2, 7])
    told: list[tuple[int, int]] = []
    found = head.fit_predict(X[:3], labels, ASKED[:1], 10, 0, lambda done, of: told.append((done, of)))
    assert found.shape == (1,) and int(found) in (2, 7) and told[-1][0] == told[-1][1]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in (
        lambda: LinearHead(c=0.0), lambda: MLPHead(hidden=(5,)), lambda: MLPHead(epochs=0),
        lambda: MLPHead(dropout=1.0), lambda: KNNHead(k=0), lambda: KNNHead(temperature=0.0),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="head needs"):
            wrong()
