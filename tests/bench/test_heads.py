"""What the heads of a downstream set cost: 10,000 embeddings of 512 numbers, ten classes, known already.

    pytest tests/bench/test_heads.py -n 0 --benchmark-enable --benchmark-only -s

Claims, on 2 cores: the paper's MLP head takes under 4 minutes for its 500 epochs (10 are run; all cost the same), the
linear head under 20 s, the kNN under 5 s for as many test embeddings. In the same run each gives the labels that its
reference gives: a plain loop with Adam, L-BFGS in float64 to a hundredth of the gradient, scikit-learn's kNN.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.evaluation.heads import Head, KNNHead, LinearHead, MLPHead
from tests.bench.table import Row, note

COUNT, WIDTH, CLASSES = 10_000, 512, 10


def embeddings(seed: int) -> tuple[Tensor, Tensor]:
    """Non-negative, with a large common part and overlapping classes, as pooled features of a ResNet are."""
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (COUNT,), generator=random)
    return (0.12 * centres[labels] + torch.randn(COUNT, WIDTH, generator=random)).relu(), labels


TRAIN, TEST = embeddings(1), embeddings(2)


def plain_mlp(epochs: int) -> Tensor:
    """The paper's head as one would write it by hand."""
    x, y = F.normalize(TRAIN[0]), TRAIN[1]
    order = np.random.default_rng(derive_seed("head order", 0))
    with seed_block("head", 0):
        net = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 512), torch.nn.ReLU(), torch.nn.Dropout(0.5),
            torch.nn.Linear(512, 256), torch.nn.ReLU(), torch.nn.Linear(256, CLASSES),
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), 1e-4, foreach=False)
        for _ in range(epochs):
            for ids in torch.from_numpy(order.permutation(COUNT)).split(256):
                optimizer.zero_grad()
                F.cross_entropy(net(x[ids]), y[ids]).backward()
                optimizer.step()
    return net.eval()(F.normalize(TEST[0])).argmax(1)


def tight() -> Tensor:
    """Logistic regression in float64, to a far smaller gradient."""
    model = LogisticRegression(C=LinearHead().c, tol=LinearHead().tolerance / 100, max_iter=5000)
    model.fit(F.normalize(TRAIN[0].double()).numpy(), TRAIN[1].numpy())
    return torch.from_numpy(model.predict(F.normalize(TEST[0].double()).numpy()))


def neighbours() -> Tensor:
    """Scikit-learn's neighbours with the same weights."""
    model = KNeighborsClassifier(200, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.5))
    return torch.from_numpy(model.fit(TRAIN[0].numpy(), TRAIN[1].numpy()).predict(TEST[0].numpy()))


@pytest.mark.parametrize(
    ("head", "reference", "beside", "times", "limit"),
    [
        (MLPHead(epochs=10), lambda: plain_mlp(10), "a plain loop", 50, 240.0),
        (LinearHead(), tight, "scikit-learn, to a smaller gradient", 1, 20.0),
        (KNNHead(), neighbours, "scikit-learn", 1, 5.0),
    ],
    ids=["mlp", "linear", "knn"],
)
def test_heads(
    benchmark: BenchmarkFixture, head: Head, reference: Callable[[], Tensor], beside: str, times: int, limit: float
) -> None:
    found: list[Tensor] = []
    seconds: list[float] = []

    def fit() -> None:
        began = time.perf_counter()
        found.append(head.fit_predict(*TRAIN, TEST[0], CLASSES, 0))
        seconds.append(time.perf_counter() - began)

    benchmark.pedantic(fit, rounds=3)
    began = time.perf_counter()
    want = reference()
    other = time.perf_counter() - began
    ours, theirs = ((rows == TEST[1]).double().mean().item() for rows in (found[0], want))
    same = (found[0] == want).double().mean().item()
    equal = f"{same:.1%} of labels; accuracy {ours:.3f}, {theirs:.3f}"
    note(Row(f"{type(head).__name__}, 10,000 x 512", beside, other * times, min(seconds) * times, same=equal))
    assert same > 0.99
    assert min(seconds) * times < limit
